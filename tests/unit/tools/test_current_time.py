from __future__ import annotations

import sys
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from t2agent.toolbox import load_tools

Text = Callable[..., str]


@pytest.fixture
def without_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without time zones, as Windows is where tzdata is not installed."""
    load_tools("current_time")
    (module,) = [m for name, m in sys.modules.items() if name.endswith("tools.current_time")]
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    module._zones.cache_clear()
    yield
    module._zones.cache_clear()


@pytest.mark.parametrize(
    ("city", "told"),
    [
        ("Paris", "16:09 on Saturday, 2026-03-14 (Europe/Paris, UTC+01:00)"),
        ("new york", "11:09 on Saturday, 2026-03-14 (America/New_York, UTC-04:00)"),
        ("Tokyo", "00:09 on Sunday, 2026-03-15 (Asia/Tokyo, UTC+09:00)"),
        ("Delhi", "20:39 on Saturday, 2026-03-14 (Asia/Kolkata, UTC+05:30)"),
        ("Zürich", "16:09 on Saturday, 2026-03-14 (Europe/Zurich, UTC+01:00)"),
        ("São Paulo, Brazil", "12:09 on Saturday, 2026-03-14 (America/Sao_Paulo, UTC-03:00)"),
        ("St. John's", "12:39 on Saturday, 2026-03-14 (America/St_Johns, UTC-02:30)"),
        ("Europe/Berlin", "16:09 on Saturday, 2026-03-14 (Europe/Berlin, UTC+01:00)"),
        ("utc", "15:09 on Saturday, 2026-03-14 (UTC+00:00)"),
        ("GMT+2", "17:09 on Saturday, 2026-03-14 (UTC+02:00)"),
        ("UTC-3:30", "11:39 on Saturday, 2026-03-14 (UTC-03:30)"),
    ],
)
def test_cities_and_zones(ok: Text, now: Callable[[], datetime], city: str, told: str) -> None:
    assert ok("current_time", {"city": city}, now=now) == told


def test_every_city_that_t2_nano_knows(ok: Text, now: Callable[[], datetime]) -> None:
    cities = ("Paris", "London", "Rome", "Oslo", "Berlin", "Madrid", "Lima", "Cairo", "Delhi")
    more = ("Quito", "Dublin", "Vienna", "Athens", "Boston", "Sydney", "Lagos", "Seoul", "Milan")
    for city in (*cities, *more):
        assert "2026-03-1" in ok("current_time", {"city": city}, now=now)


def test_all_names_lead_to_zones_that_there_are(ok: Text) -> None:
    load_tools("current_time")
    (module,) = [m for name, m in sys.modules.items() if name.endswith("tools.current_time")]
    known = zoneinfo.available_timezones()
    assert set(module._zones().values()) <= known
    assert set(module._MORE) <= known


def test_without_a_city_it_is_the_time_here(ok: Text, now: Callable[[], datetime]) -> None:
    here = "15:09 on Saturday, 2026-03-14 (UTC+00:00)"
    assert ok("current_time", {}, now=now) == here
    assert ok("current_time", {"city": " "}, now=now) == here


def test_the_clock_of_the_machine(ok: Text) -> None:
    days = {f"{datetime.now(UTC):%Y-%m-%d}"}
    told = ok("current_time", {"city": "UTC"})
    days.add(f"{datetime.now(UTC):%Y-%m-%d}")  # it may be midnight
    assert any(day in told for day in days)
    assert ok("current_time", {})


@pytest.mark.parametrize(
    "city", ["Pariss", "Nowhere", "../../etc/passwd", "UTC+99", "x" * 10**6, "\ud800", "\0", "/"]
)
def test_unknown_cities(refused: Text, city: str) -> None:
    assert refused("current_time", {"city": city})


def test_the_nearest_name_is_told(refused: Text) -> None:
    assert "Did you mean 'paris'?" in refused("current_time", {"city": "Pariss"})


@pytest.mark.usefixtures("without_zones")
def test_without_data_on_time_zones(ok: Text, refused: Text, now: Callable[[], datetime]) -> None:
    assert "pip install tzdata" in refused("current_time", {"city": "Paris"}, now=now)
    assert ok("current_time", {"city": "UTC+1"}, now=now).startswith("16:09")


def test_arguments_are_checked(refused: Text, now: Callable[[], datetime]) -> None:
    arguments: Any = {"town": "Paris"}
    assert "no argument 'town'" in refused("current_time", arguments, now=now)
