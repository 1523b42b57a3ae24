from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("date", "days", "later"),
    [
        ("2026-03-14", 30, "2026-04-13"),
        ("2026-03-14", -14, "2026-02-28"),
        ("2024-02-28", "1", "2024-02-29"),
        ("today", 1, "2026-03-15"),
    ],
)
def test_later(ok: Text, now: Callable[[], datetime], date: str, days: object, later: str) -> None:
    assert ok("add_days", {"date": date, "days": days}, now=now) == later


@pytest.mark.parametrize("days", [10**9, -(10**9), 10**400, 3 * 10**6, 1.5, "many", None, [1]])
def test_no_days(refused: Text, days: Any) -> None:
    told = refused("add_days", {"date": "2026-03-14", "days": days})
    assert "years 1 to 9999" in told or "days must be a whole number" in told
