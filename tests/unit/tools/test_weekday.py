from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("date", "day"),
    [
        ("2026-03-14", "Saturday"),
        ("2026-3-1", "Sunday"),
        ("2026-03-14T10:00:00Z", "Saturday"),
        ("14 March 2026", "Saturday"),
        ("14th of Mar. 2026", "Saturday"),
        ("March 14, 2026", "Saturday"),
        ("sept 1 2026", "Tuesday"),
        ("today", "Saturday"),
        ("Tomorrow", "Sunday"),
        ("yesterday", "Friday"),
        ("0001-01-01", "Monday"),
        ("2024-02-29", "Thursday"),
    ],
)
def test_days(ok: Text, now: Callable[[], datetime], date: str, day: str) -> None:
    assert ok("weekday", {"date": date}, now=now) == day


@pytest.mark.parametrize(
    "date",
    [
        "", "2026-02-30", "2025-02-29", "3/4/2026", "14 Foo 2026", "Ma 1 2026", "Ju. 3, 2026",
        "now", "0000-01-01", "99999-01-01", "2026-03-14" * 1000, "٢٠٢٦-٠٣-١٤", "\ud800",
    ],
)  # fmt: skip
def test_no_days(refused: Text, date: str) -> None:
    assert "2026-03-14" in refused("weekday", {"date": date})


def test_a_long_text(refused: Text) -> None:
    assert "20,000 are the most" in refused("weekday", {"date": "x" * 10**6})
