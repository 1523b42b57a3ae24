"""convert_units: lengths, masses, times, temperatures, volumes, areas, speeds and data, exactly.

Factors are exact by definition, as fractions. Gallons, pints and the like are those of the USA
where nothing else is said; a ton is refused, since it may be one of three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox import nearest
from t2agent.toolbox.content import Arguments, Text, content_tool, shown
from t2agent.toolbox.numbers import Number, exact, written

_INCH = Fraction("0.0254")
_FOOT = 12 * _INCH
_MILE = 5280 * _FOOT
_POUND = Fraction("0.45359237")
_GALLON = 231 * _INCH**3 * 1000  # in litres
_HOUR = Fraction(3600)
_DAY = 24 * _HOUR

# Kind -> names of a unit, the one that is shown first -> how many of the kind's base units it is.
_UNITS: Mapping[str, Mapping[str, Fraction]] = {
    "length": {
        "km|kilometre|kilometer": Fraction(1000),
        "m|metre|meter": Fraction(1),
        "dm|decimetre|decimeter": Fraction(1, 10),
        "cm|centimetre|centimeter": Fraction(1, 100),
        "mm|millimetre|millimeter": Fraction(1, 1000),
        "µm|um|micrometre|micrometer|micron": Fraction(1, 10**6),
        "nm|nanometre|nanometer": Fraction(1, 10**9),
        "mile|mi": _MILE,
        "yard|yd": 3 * _FOOT,
        "foot|ft|feet": _FOOT,
        "inch|in|inches": _INCH,
        "nautical mile|nmi": Fraction(1852),
    },
    "mass": {
        "t|tonne|metric ton": Fraction(1000),
        "kg|kilogram|kilo": Fraction(1),
        "g|gram|gramme": Fraction(1, 1000),
        "mg|milligram": Fraction(1, 10**6),
        "lb|pound": _POUND,
        "oz|ounce": _POUND / 16,
        "stone|st": 14 * _POUND,
        "short ton|us ton": 2000 * _POUND,
    },
    "time": {
        "ms|millisecond": Fraction(1, 1000),
        "µs|us|microsecond": Fraction(1, 10**6),
        "s|second|sec": Fraction(1),
        "min|minute": Fraction(60),
        "h|hour|hr": _HOUR,
        "day|d": _DAY,
        "week|wk": 7 * _DAY,
    },
    "temperature": {
        "C|°C|celsius|degree celsius|degrees celsius|degrees c|centigrade": Fraction(1),
        "F|°F|fahrenheit|degree fahrenheit|degrees fahrenheit|degrees f": Fraction(5, 9),
        "K|kelvin": Fraction(1),
    },
    "volume": {
        "m3|m³|cubic metre|cubic meter": Fraction(1000),
        "l|L|litre|liter": Fraction(1),
        "dl|decilitre|deciliter": Fraction(1, 10),
        "cl|centilitre|centiliter": Fraction(1, 100),
        "ml|mL|millilitre|milliliter|cm3|cm³|cc": Fraction(1, 1000),
        "gallon|gal": _GALLON,
        "quart|qt": _GALLON / 4,
        "imperial gallon|uk gallon": Fraction("4.54609"),
        "imperial pint|uk pint": Fraction("4.54609") / 8,
        "pint|pt": _GALLON / 8,
        "cup": _GALLON / 16,
        "fl oz|fluid ounce": _GALLON / 128,
        "tablespoon|tbsp": _GALLON / 256,
        "teaspoon|tsp": _GALLON / 768,
    },
    "area": {
        "km2|km²|square kilometre|square kilometer": Fraction(10**6),
        "ha|hectare": Fraction(10**4),
        "m2|m²|square metre|square meter": Fraction(1),
        "cm2|cm²|square centimetre|square centimeter": Fraction(1, 10**4),
        "mm2|mm²|square millimetre|square millimeter": Fraction(1, 10**6),
        "acre": 43560 * _FOOT**2,
        "square mile|sq mi": _MILE**2,
        "square foot|sq ft|ft2|ft²|square feet": _FOOT**2,
        "square inch|sq in|in2|in²|square inches": _INCH**2,
        "square yard|sq yd": 9 * _FOOT**2,
    },
    "speed": {
        "m/s|mps|metre per second|meter per second|metres per second|meters per second": Fraction(
            1
        ),
        "km/h|kmh|kph|kilometres per hour|kilometers per hour": 1000 / _HOUR,
        "mph|mi/h|mile per hour|miles per hour": _MILE / _HOUR,
        "knot|kn|kt": 1852 / _HOUR,
        "ft/s|fps|foot per second|feet per second": _FOOT,
    },
    "data": {
        "bit": Fraction(1, 8),
        "B|byte": Fraction(1),
        "kB|KB|kilobyte": Fraction(10**3),
        "MB|megabyte": Fraction(10**6),
        "GB|gigabyte": Fraction(10**9),
        "TB|terabyte": Fraction(10**12),
        "PB|petabyte": Fraction(10**15),
        "KiB|kibibyte": Fraction(2**10),
        "MiB|mebibyte": Fraction(2**20),
        "GiB|gibibyte": Fraction(2**30),
        "TiB|tebibyte": Fraction(2**40),
        "kbit|Kb|kilobit": Fraction(10**3, 8),
        "Mbit|Mb|megabit": Fraction(10**6, 8),
        "Gbit|Gb|gigabit": Fraction(10**9, 8),
    },
}
# What is added in kelvin: 0 degrees of each scale.
_ZERO = {"C": Fraction("273.15"), "F": Fraction("459.67") * Fraction(5, 9), "K": Fraction(0)}


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    kind: str
    factor: Fraction


def _named() -> tuple[dict[str, _Unit], dict[str, set[_Unit]]]:
    """Units by their names as they are, and by their names in small letters."""
    by_name: dict[str, _Unit] = {}
    by_small: dict[str, set[_Unit]] = {}
    for kind, units in _UNITS.items():
        for names, factor in units.items():
            first, *more = names.split("|")
            unit = _Unit(first, kind, factor)
            for name in (first, *more):
                by_name[name] = unit
                by_small.setdefault(name.casefold(), set()).add(unit)
    return by_name, by_small


_BY_NAME, _BY_SMALL = _named()


class ConvertUnitsArguments(Arguments):
    """What convert_units takes."""

    value: Annotated[Number, Field(description="how many")]
    unit: Annotated[Text, Field(description="of the value, such as km")]
    to: Annotated[Text, Field(description="the unit that is wanted, such as m")]


def convert_units(value: int | float, unit: str, to: str) -> str:
    """The value in another unit. Raises ToolException for units that do not fit."""
    old, new = _find(unit), _find(to)
    if old.kind != new.kind:
        raise ToolException(
            f"{old.name} is a unit of {old.kind} and {new.name} one of {new.kind}: give two of "
            f"{old.kind} ({_of(old.kind)}) or two of {new.kind} ({_of(new.kind)})"
        )
    given = exact(value)
    if old.kind != "temperature":
        return written(given * old.factor / new.factor)
    kelvin = given * old.factor + _ZERO[old.name]
    if kelvin < 0:
        raise ToolException(
            f"{written(given)} {old.name} is colder than absolute zero (-273.15 C): give more"
        )
    return written((kelvin - _ZERO[new.name]) / new.factor)


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "convert_units",
        "Converts a value from one unit to another.",
        ConvertUnitsArguments,
        convert_units,
    )


def _find(given: str) -> _Unit:
    """The unit of a name; capitals and plurals may differ where that leaves no doubt."""
    name = " ".join(given.replace("μ", "µ").split())
    if name in _BY_NAME:
        return _BY_NAME[name]
    small = name.casefold()
    for spelling in (small, small.removesuffix("s")):
        found = _BY_SMALL.get(spelling, set())
        if len(found) == 1:
            return next(iter(found))
        if found:
            meant = " or ".join(sorted(unit.name for unit in found))
            raise ToolException(f"{shown(given)} may be {meant}: write which")
    kinds = "; ".join(f"{kind}: {_of(kind)}" for kind in _UNITS)
    raise ToolException(
        f"{shown(given)} is no unit that is known.{nearest(small, _BY_SMALL)} Known are {kinds}."
    )


def _of(kind: str) -> str:
    return ", ".join(names.partition("|")[0] for names in _UNITS[kind])
