"""Numbers between limits and of multiples, as languages of their digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from t2agent.replies import languages as regular
from t2agent.replies.languages import END, Language

_NUMBER_RANGE = 40  # digits to which ranges of numbers are held
_GREAT = 10**18  # numbers from which on no digits are written out


def limits(bounds: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    """The least and the greatest number that a schema allows, strict or not."""
    lows = [bounds[key] for key in ("minimum", "exclusiveMinimum") if key in bounds]
    highs = [bounds[key] for key in ("maximum", "exclusiveMaximum") if key in bounds]
    low = max((Decimal(repr(one)) for one in lows), default=None)
    high = min((Decimal(repr(one)) for one in highs), default=None)
    return low, high


def near_limits(bounds: Mapping[str, Any]) -> list[Any]:
    """Values at, near and between the limits that fit them."""
    low, high = limits(bounds)
    some = [one for one in (low, high) if one is not None]
    found = [float(one) for one in some]
    found += [int(one) for one in some if one == one.to_integral_value() and abs(one) < 10**300]
    if low is not None and high is not None:
        found.append((float(low) + float(high)) / 2)
    found += [0, 1, -1, *(float(one) * 2 for one in some), *(float(one) / 2 for one in some)]
    return [
        one
        for place, one in enumerate(found)
        if math.isfinite(one) and one not in found[:place] and _within(one, bounds)
    ]


def _within(value: Any, bounds: Mapping[str, Any]) -> bool:
    return (
        value >= bounds.get("minimum", value)
        and value <= bounds.get("maximum", value)
        and ("exclusiveMinimum" not in bounds or value > bounds["exclusiveMinimum"])
        and ("exclusiveMaximum" not in bounds or value < bounds["exclusiveMaximum"])
    )


def steps(
    bounds: Mapping[str, Any], multiples: Sequence[Any], name: str, most: int
) -> list[Any] | None:
    """All numbers of a kind, where they are few."""
    low, high = limits(bounds)
    if low is None or high is None:
        return None
    sizes = [Decimal(repr(one)) for one in multiples] + ([Decimal(1)] if name == "integer" else [])
    if not sizes:
        return None
    step = max(sizes)
    if (high - low) / step > most:
        return None
    start = (low / step).to_integral_value(rounding="ROUND_CEILING")
    found = []
    while start * step <= high:
        value = start * step
        if all((value / one) % 1 == 0 for one in sizes):
            whole_value = value == value.to_integral_value()
            found.append(int(value) if whole_value else float(value))
        start += 1
    return [one for one in found if _within(one, bounds)]


def numbers(
    bounds: Mapping[str, Any],
    multiples: Sequence[Any],
    low: Decimal | None,
    high: Decimal | None,
    whole_only: bool,
) -> Language | None:
    """The ways to write a number of a range; None where it cannot be told."""
    strict_low = (
        low is not None
        and "exclusiveMinimum" in bounds
        and (Decimal(repr(bounds["exclusiveMinimum"])) == low)
    )
    strict_high = (
        high is not None
        and "exclusiveMaximum" in bounds
        and (Decimal(repr(bounds["exclusiveMaximum"])) == high)
    )
    for one in (low, high):
        if one is not None and one and not -_NUMBER_RANGE < one.adjusted() < _NUMBER_RANGE:
            return None
        if one is not None and _places(one) > _NUMBER_RANGE:
            return None
    if high is not None and high >= _GREAT:
        high, strict_high = None, False
    if low is not None and low <= -_GREAT:
        low, strict_low = None, False
    if (low is not None and low >= _GREAT) or (high is not None and high <= -_GREAT):
        return None
    places = 0
    wholes: list[int] = []
    for given in multiples:
        step = Decimal(repr(given))
        if step == step.to_integral_value():
            wholes.append(int(step))
        elif (1 / step) % 1 == 0 and (Decimal(1) / step) in {
            Decimal(10) ** n for n in range(1, 19)
        }:
            places = max(places, -step.adjusted())
        elif (1 / step) % 1 == 0:
            wholes.append(1)
        else:
            return None
    exact = whole_only or bool(wholes)
    digits = 0 if exact else places or 17
    terms = [_range(low, high, strict_low, strict_high, digits)]
    for given in wholes:
        size, zeros = given, 0
        while size % 10 == 0:
            size, zeros = size // 10, zeros + 1
        if size > 2000:
            return None
        digit = regular.chars(((48, 57),))
        inner = regular.both(regular.multiple(size), regular.repeated(digit, 1, None))
        number = regular.sequence(inner, regular.literal("0" * zeros))
        number = regular.either(number, regular.literal("0"))
        terms.append(regular.sequence(regular.repeated(regular.literal("-"), 0, 1), number))
    return regular.both(*terms)


def _places(number: Decimal) -> int:
    """Digits after the point."""
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _range(
    low: Decimal | None, high: Decimal | None, strict_low: bool, strict_high: bool, digits: int
) -> Language:
    """Decimal numbers within limits, with at most so many digits after the point."""
    zero = Decimal(0)
    ways = []
    if high is None or high > 0 or (high == 0 and not strict_high):
        start = low if low is not None and low >= 0 else None
        strict = strict_low and start is not None
        ways.append(_positive(start, high, strict, strict_high, digits))
    if low is None or low < 0:
        top = -low if low is not None else None
        bottom = -high if high is not None and high < 0 else None
        strict = strict_high and bottom is not None
        least_one = bottom if bottom is not None else zero
        ways.append(
            regular.sequence(
                regular.literal("-"),
                _positive(least_one, top, strict or bottom is None, strict_low, digits),
            )
        )
    return regular.either(*ways)


def _positive(
    low: Decimal | None, high: Decimal | None, strict_low: bool, strict_high: bool, digits: int
) -> Language:
    digit, first = regular.chars(((48, 57),)), regular.chars(((49, 57),))
    start = regular.either(
        regular.literal("0"), regular.sequence(first, regular.repeated(digit, 0, 17))
    )
    point = regular.sequence(regular.literal("."), regular.repeated(digit, 1, digits or 1))
    whole_number = regular.sequence(start, regular.repeated(point, 0, 1) if digits else END)
    terms = [whole_number]
    if low is not None and (low > 0 or strict_low):
        terms.append(_above(low, strict_low))
    if high is not None:
        terms.append(regular.other(_above(high, not strict_high)))
    return regular.both(*terms)


def _above(limit: Decimal, strict: bool) -> Language:
    """Texts of decimal numbers, without leading zeros, that are greater (or equal)."""
    digit = regular.chars(((48, 57),))
    text = format(limit, "f")
    integer, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    integer = integer.lstrip("0") or "0"
    tail = regular.repeated(
        regular.sequence(regular.literal("."), regular.repeated(digit, 1, None)), 0, 1
    )
    ways = [
        regular.sequence(
            regular.chars(((49, 57),)), regular.repeated(digit, len(integer), None), tail
        )
    ]
    for place, one in enumerate(integer):
        if one < "9":
            ways.append(
                regular.sequence(
                    regular.literal(integer[:place]),
                    regular.chars(((ord(one) + 1, 57),)),
                    regular.repeated(digit, len(integer) - place - 1, len(integer) - place - 1),
                    tail,
                )
            )
    head = regular.literal(integer + ".")
    for place, one in enumerate(fraction):
        if one < "9":
            ways.append(
                regular.sequence(
                    head, regular.literal(fraction[:place]), regular.chars(((ord(one) + 1, 57),)),
                    regular.repeated(digit, 0, None),
                )
            )  # fmt: skip
    nought = regular.repeated(regular.literal("0"), 0, None)
    some = regular.sequence(nought, regular.chars(((49, 57),)), regular.repeated(digit, 0, None))
    ways.append(regular.sequence(head, regular.literal(fraction), some))
    if not strict:
        equal = regular.sequence(head, regular.literal(fraction), nought)
        ways.append(equal if fraction else regular.either(regular.literal(integer), equal))
    return regular.either(*ways)
