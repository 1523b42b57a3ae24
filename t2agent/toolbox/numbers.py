"""Numbers as tools take and write them: exact as long as they can be."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, FailFast, Strict, WithJsonSchema

from t2agent.toolbox.content import MAX_TEXT, Text

MAX_ITEMS = 1000
"""Of a list that a tool takes."""
_LARGEST = 1e300
_PLACES = 20  # after the point, of a number that is written exactly
_DIGITS = 12  # of one that is not

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d{1,15})?", re.ASCII)  # of JSON, and short
_SEPARATOR = re.compile(r"\s*[,;\n]\s*")


def _bounded(number: int | float) -> int | float:
    # NaN is within no bounds. pydantic's own check would raise an OverflowError for 10**400.
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError("a number from -1e300 to 1e300 is needed")
    return number


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        value = _read(value)
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise ValueError(f"{MAX_ITEMS:,} items are the most: give fewer at a time")
    return value


def _numbers(value: Any) -> Any:
    # "3 1 2" is a list of numbers, but of words it would be one item.
    return _listed(value.replace(" ", ",") if isinstance(value, str) else value)


def _read(text: str) -> list[Any]:
    """The list that a model wrote as text: JSON, or items with commas between them."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"{MAX_TEXT:,} characters are the most: give fewer at a time")
    text = text.strip()
    with suppress(ValueError, RecursionError):
        if isinstance(read := json.loads(text), list):
            return read
    parts = _SEPARATOR.split(text.removeprefix("[").removesuffix("]"))
    return [
        json.loads(part) if _NUMBER.fullmatch(part) else part.strip("\"' ")
        for part in parts
        if part
    ]


Number = Annotated[
    int | float,
    AfterValidator(_bounded),
    WithJsonSchema({"type": "number"}),
]
"""A number: whole ones stay whole."""
Numbers = Annotated[list[Number], FailFast(), BeforeValidator(_numbers)]
"""A list of numbers, or their text."""
Items = Annotated[list[Number | Annotated[Text, Strict()]], FailFast(), BeforeValidator(_listed)]
"""A list of numbers and words, or their text with commas."""


def exact(number: int | float) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def written(value: Fraction | float) -> str:
    """A finite number in digits: exact up to 20 places after the point, else 12 digits.

    The caller sees to it that its whole part has no more digits than Python writes.
    """
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**_PLACES
    if scaled.denominator == 1:
        digits = str(abs(scaled.numerator)).rjust(_PLACES + 1, "0")
        sign = "-" if value < 0 else ""
        return f"{sign}{digits[:-_PLACES]}.{digits[-_PLACES:].rstrip('0')}"
    try:
        near = value.numerator / value.denominator
    except OverflowError:
        near = 0.0
    if near:
        return f"{near:.{_DIGITS}g}"
    with localcontext(prec=_DIGITS):  # beyond what a float holds, on either side
        return f"{Decimal(value.numerator) / Decimal(value.denominator):.{_DIGITS - 1}e}"
