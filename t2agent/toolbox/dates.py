"""Dates as models write them, and a clock that a test can set."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from langchain_core.tools import ToolException

from t2agent.toolbox.content import shown

Clock = Callable[[], datetime]
"""Gives the present moment with its time zone, which decides what today is."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""By `date.weekday`; strftime would follow the machine's language."""

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_NEAR = {"yesterday": -1, "today": 0, "tomorrow": 1}
_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ].*)?", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?\.? (?:of )?([a-z]{3,9})\.?,? (\d{4})", re.ASCII)
_MONTH_FIRST = re.compile(r"([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", re.ASCII)
_LONGEST = 40


def now() -> datetime:
    """The present moment, in the time zone of this machine."""
    return datetime.now(UTC).astimezone()


def parsed(text: str, clock: Clock) -> date:
    """The day that a text names: 2026-03-14, 14 March 2026, today, tomorrow or yesterday.

    Days in digits and slashes are refused, since their order differs between countries. Raises
    ToolException for what is no day.
    """
    plain = " ".join(text[:_LONGEST].lower().split())
    if plain in _NEAR:
        return moved(clock().date(), _NEAR[plain])
    if found := _ISO.fullmatch(plain.upper()):
        year, month, day = map(int, found.groups())
    elif found := _DAY_FIRST.fullmatch(plain):
        day, month, year = int(found[1]), _month(found[2]), int(found[3])
    elif found := _MONTH_FIRST.fullmatch(plain):
        month, day, year = _month(found[1]), int(found[2]), int(found[3])
    else:
        raise ToolException(
            f"{shown(text)} is no date that is understood: write it as 2026-03-14, "
            "or say today, tomorrow or yesterday"
        )
    try:
        return date(year, month, day)
    except ValueError as error:
        raise ToolException(
            f"{shown(text)} is no day of the calendar ({error}): give one that is, as 2026-03-14"
        ) from error


def moved(day: date, days: int) -> date:
    """The date some days after another, or before it. Raises ToolException outside the calendar."""
    try:
        return day + timedelta(days=days)
    except OverflowError as error:
        raise ToolException(
            f"{shown(days)} days from {day} is outside of the years 1 to 9999: give fewer days"
        ) from error


def _month(name: str) -> int:
    """1 to 12, and 0 for what is no month."""
    found = [n for n, month in enumerate(_MONTHS, 1) if month.startswith(name[:9])]
    return found[0] if len(found) == 1 else 0
