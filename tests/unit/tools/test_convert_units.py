from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.toolbox import load_tools

Text = Callable[..., str]
(TOOL,) = load_tools("convert_units")
(MODULE,) = [m for name, m in sys.modules.items() if name.endswith("tools.convert_units")]


@pytest.mark.parametrize(
    ("value", "unit", "to", "result"),
    [
        (3, "km", "m", "3000"),
        (2.5, "miles", "km", "4.02336"),
        (1, "inch", "cm", "2.54"),
        (6, "Feet", "inches", "72"),
        (0.1, "m", "mm", "100"),
        (1, "lb", "kg", "0.45359237"),
        (1, "stone", "pounds", "14"),
        (90, "minutes", "hours", "1.5"),
        ("2", "weeks", "days", "14"),
        (100, "C", "F", "212"),
        (-40, "°F", "celsius", "-40"),
        (0, "K", "C", "-273.15"),
        (1, "gallon", "l", "3.785411784"),
        (1, "imperial pint", "ml", "568.26125"),
        (2, "cups", "tablespoons", "32"),
        (1, "ha", "m2", "10000"),
        (1, "square mile", "acres", "640"),
        (36, "km/h", "m/s", "10"),
        (1, "knot", "km/h", "1.852"),
        (1, "GiB", "MB", "1073.741824"),
        (8, "Mb", "MB", "1"),
        (1, "μm", "nm", "1000"),
        (1, "m", "mile", "0.000621371192237"),
    ],
)
def test_conversions(ok: Text, value: Any, unit: str, to: str, result: str) -> None:
    assert ok("convert_units", {"value": value, "unit": unit, "to": to}) == result


@pytest.mark.parametrize(
    ("value", "unit", "to", "told"),
    [
        (1, "kg", "m", "kg is a unit of mass and m one of length"),
        (1, "metr", "m", "Did you mean 'metre'"),
        (1, "furlong", "m", "length: km, m"),
        (1, "ton", "kg", "no unit that is known"),
        (1, "mb", "gb", "MB or Mbit"),
        (-300, "C", "F", "absolute zero"),
        (10**400, "m", "km", "1e300"),
        (float("nan"), "m", "km", "1e300"),
        (float("inf"), "m", "km", "1e300"),
        ("many", "m", "km", "value must be a number, but 'many' was given"),
        (None, "m", "km", "value must be a number"),
        (1, "", "m", "no unit"),
        (1, "x" * 10**6, "m", "characters"),
    ],
)
def test_errors(refused: Text, value: Any, unit: str, to: str, told: str) -> None:
    assert told in refused("convert_units", {"value": value, "unit": unit, "to": to})


def test_a_large_number_is_written(ok: Text) -> None:
    assert ok("convert_units", {"value": 1e300, "unit": "PB", "to": "bit"}).startswith(
        "8" + "0" * 99
    )


@given(st.data(), st.integers(-(10**6), 10**6))
def test_there_and_back(data: st.DataObject, value: int) -> None:
    kind = data.draw(st.sampled_from([k for k in MODULE._UNITS if k != "temperature"]))
    names = [name for names in MODULE._UNITS[kind] for name in names.split("|")]
    one, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    there = float(TOOL.invoke({"value": value, "unit": one, "to": other}))
    back = float(TOOL.invoke({"value": there, "unit": other, "to": one}))
    assert back == pytest.approx(value, rel=1e-9)


def test_every_name_means_one_unit() -> None:
    names = [n for units in MODULE._UNITS.values() for names in units for n in names.split("|")]
    assert len(names) == len(set(names))
