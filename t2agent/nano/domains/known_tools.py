"""The tools by name: those that ship with t2agent, common ones, and ones kept unseen.

The first group have the names and parameters of the tools in ``tools/``, and their results are
computed; those of the others are made up. Those of ``UNSEEN`` never stand in the corpus. How they
are shown and asked for is in ``known_tools.json``; a parameter's kind is one of `KINDS`, or the
least and the greatest of whole numbers.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from t2agent.nano.domains.toolkit import KINDS, Arguments, ToolSpec, Value, compute, number

_UNITS = {
    "km": ("m", 1000),
    "m": ("cm", 100),
    "cm": ("mm", 10),
    "kg": ("g", 1000),
    "hours": ("minutes", 60),
    "minutes": ("seconds", 60),
    "days": ("hours", 24),
    "weeks": ("days", 7),
}


def _weekday(arguments: Arguments) -> str:
    return f"{datetime.date.fromisoformat(arguments['date']):%A}"


def _days_later(arguments: Arguments) -> str:
    day = datetime.date.fromisoformat(arguments["date"])
    return str(day + datetime.timedelta(days=arguments["days"]))


def _conversion(rng: random.Random) -> dict[str, Value]:
    unit = rng.choice(list(_UNITS))
    return {"value": rng.randint(2, 99), "unit": unit, "to": _UNITS[unit][0]}


_RESULTS: Mapping[str, Callable[[Arguments], object]] = {
    "calculator": lambda a: compute(a["expression"]),
    "convert_units": lambda a: a["value"] * _UNITS[a["unit"]][1],
    "add_days": _days_later,
    "weekday": _weekday,
    "sort_numbers": lambda a: sorted(a["numbers"]),
    "count_words": lambda a: len(a["text"].split()),
    "reverse_text": lambda a: a["text"][::-1],
}
_FIXED = {"convert_units": _conversion}


class _Written(BaseModel, extra="forbid"):
    name: str
    description: str
    parameters: dict[str, str | tuple[int, int]]
    asks: tuple[str, ...]

    def spec(self) -> ToolSpec:
        kinds = {
            key: KINDS[kind] if isinstance(kind, str) else number(*kind)
            for key, kind in self.parameters.items()
        }
        result, fixed = _RESULTS.get(self.name), _FIXED.get(self.name)
        return ToolSpec(self.name, self.description, kinds, self.asks, result, fixed)


_GROUPS = TypeAdapter(dict[str, list[_Written]]).validate_json(
    Path(__file__).with_name("known_tools.json").read_bytes()
)
SHIPPED, COMMON, UNSEEN = (
    tuple(tool.spec() for tool in _GROUPS[group]) for group in ("shipped", "common", "unseen")
)
