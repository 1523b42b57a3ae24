"""How a reply is sampled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from t2agent.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How a reply is sampled.

    ``max_tokens`` counts new tokens; ``temperature`` 0 is greedy; ``top_p`` is the nucleus in
    (0, 1]; a reply ends before the first of ``stop``; ``seed`` makes sampling repeatable.

    Raises:
        ConfigError: a value is outside its range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if not _is_int(self.max_tokens) or self.max_tokens < 1:
            raise ConfigError(
                f"max_tokens is {self.max_tokens!r}; it must be a whole number of at least 1"
            )
        if not _is_number(self.temperature) or self.temperature < 0:
            raise ConfigError(
                f"temperature is {self.temperature!r}; it must be a finite number of at least 0 "
                "(0 is greedy)"
            )
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p!r}; it must lie in (0, 1]")
        given: object = self.stop
        if isinstance(given, str):
            raise ConfigError(f"stop is the string {given!r}; give a sequence of strings")
        if not isinstance(given, Iterable):
            raise ConfigError(f"stop is {given!r}; give a sequence of strings")
        stop = tuple(self.stop)
        if not all(isinstance(text, str) and text for text in stop):
            raise ConfigError(f"stop is {self.stop!r}; each stop must be a string of some length")
        object.__setattr__(self, "stop", stop)
        if self.seed is not None and (not _is_int(self.seed) or not 0 <= self.seed < 2**63):
            raise ConfigError(f"seed is {self.seed!r}; it must be None or lie in [0, 2**63)")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
