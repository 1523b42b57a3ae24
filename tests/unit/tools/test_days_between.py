from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Text = Callable[..., str]


def test_days_between(ok: Text, refused: Text, now: Callable[[], datetime]) -> None:
    assert ok("days_between", {"start": "2024-02-28", "end": "2024-03-01"}) == "2"
    assert ok("days_between", {"start": "2026-03-20", "end": "2026-03-14"}) == "-6"
    assert ok("days_between", {"start": "today", "end": "December 25, 2026"}, now=now) == "286"
    assert "end is missing" in refused("days_between", {"start": "today"})
    assert "'soon'" in refused("days_between", {"start": "today", "end": "soon"})
