"""Options: how their values are checked, and those by which a reply is sampled.

An option's type tells what it may be: `Count`, `Positive`, ... `checked` makes a dataclass of which
the values are of their types, `check_option` looks at one value, and `config_errors` turns what
pydantic says into a ConfigError.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import (
    AllowInfNan,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from t2agent.errors import ConfigError
from t2agent.experts.card import MOST_BEAMS

T = TypeVar("T")

_UNITS = ("", "K", "M", "G", "T")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def needs(what: str) -> WrapValidator:
    """For a type's annotation: ``what`` is needed, where a value is refused."""

    def check(value: object, handler: Callable[[object], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            told = "Input should be {what}"  # as pydantic begins
            raise PydanticCustomError("needs", told, {"what": what}) from error

    return WrapValidator(check)


def _plain(value: object) -> object:
    # pydantic would take all that has `__float__`, tensors too.
    if isinstance(value, int | float):
        return value
    raise ValueError("no number")


Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_plain)]
Count = Annotated[Whole, Field(ge=1), needs("a whole number of at least 1")]
CountOrZero = Annotated[Whole, Field(ge=0), needs("a whole number, 0 or more")]
Positive = Annotated[Number, Field(gt=0), needs("a finite number above 0")]
NotNegative = Annotated[Number, Field(ge=0), needs("a finite number of at least 0")]
Share = Annotated[Number, Field(gt=0, le=1), needs("a number in (0, 1]")]


@contextmanager
def config_errors(name: str = "", known: Iterable[str] = ()) -> Iterator[None]:
    """Turn a ValidationError of the block into a ConfigError that says what was got and is needed.

    name: of the option, where the error does not tell it. known: the options that there are.
    """
    try:
        yield
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = found[0]
        if isinstance(own := first.get("ctx", {}).get("error"), ConfigError):
            raise own from None  # of a validator, or `__post_init__`
        unknown = sorted(str(each["loc"][-1]) for each in found if each["type"] in _UNKNOWN)
        if unknown:
            told = f"unknown option(s) {', '.join(unknown)}; known: {', '.join(known)}"
            raise ConfigError(told) from error
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]]
        name = "".join(parts).removeprefix(".") or name
        needed = first["msg"].replace("Input should", "it must", 1).replace("valid tuple", "list")
        raise ConfigError(f"{name} is {first['input']!r:.200}; {needed}") from error


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,)
)
def checked(options: type[T]) -> type[T]:
    """Make a class a frozen dataclass by keyword, of which the values are checked.

    What does not fit its field's type, and a name that is no field's, is a ConfigError.
    """
    forbid = ConfigDict(extra="forbid")
    made: Any = dataclass(config=forbid, frozen=True, slots=True, kw_only=True)(options)
    known = [field.name for field in dataclasses.fields(made)]
    made.__init__ = config_errors(known=known)(made.__init__)
    return cast("type[T]", made)


def check_option(name: str, value: object, kind: Any) -> None:
    """Raise ConfigError where a value is not of the type that its option has."""
    with config_errors(name):
        _adapter(kind).validate_python(value)


def bytes_of(memory: int | str) -> int:
    """Bytes of a figure such as 2_000_000_000, "2GB" or "1.5 GiB".

    Raises:
        ConfigError: it is none, or not above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(memory), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"memory is {memory!r}; give bytes, or a size such as '2GB' or '1.5GiB'")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS.index(found[2].upper()))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@checked
class GenerationOptions:
    """How a reply is sampled.

    ``max_tokens`` counts new tokens; ``temperature`` 0 is greedy; ``top_p`` is the nucleus in
    (0, 1]; a reply ends before the first of ``stop``; ``seed`` makes sampling repeatable. Only the
    ``top_k`` likeliest tokens are drawn (0: all), and those at least ``min_p`` times as likely as
    the likeliest; ``repetition_penalty`` above 1 makes tokens that stand before less likely.
    ``logprobs``: how many of the likeliest tokens are told for each place, with the probability of
    the token itself; None tells nothing. ``num_beams``: how many beginnings of a greedy reply that
    a grammar holds are written at once (`t2agent.models.beams`); None is as the experts say.

    Raises:
        ConfigError: a value is outside its range.
    """

    max_tokens: Count = 256
    temperature: Annotated[NotNegative, needs("a finite number of at least 0 (0 is greedy)")] = 0.0
    top_p: Share = 1.0
    stop: Annotated[
        tuple[Annotated[str, StringConstraints(strict=True, min_length=1)], ...],
        needs("a sequence of strings, none of them empty"),
    ] = ()
    seed: Annotated[
        Annotated[Whole, Field(ge=0, lt=2**63)] | None,
        needs("None or a whole number in [0, 2**63)"),
    ] = None
    top_k: CountOrZero = 0
    min_p: Annotated[Number, Field(ge=0, le=1), needs("a number in [0, 1]")] = 0.0
    repetition_penalty: Positive = 1.0
    logprobs: Annotated[
        Annotated[Whole, Field(ge=0, le=20)] | None, needs("None or a whole number in [0, 20]")
    ] = None
    num_beams: Annotated[
        Annotated[Whole, Field(ge=1, le=MOST_BEAMS)] | None,
        needs(f"None or a whole number in [1, {MOST_BEAMS}]"),
    ] = None

    @property
    def cuts(self) -> bool:
        """Whether some tokens are never drawn."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0
