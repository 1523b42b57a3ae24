"""A mean with the interval that it is known to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and half the width of its 95 % interval, None where there is one value."""

    mean: float
    half: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Of independent values: Student's t on their standard deviation."""
        from scipy.stats import t

        found = list(values)
        if len(found) < 2:
            return cls(mean(found))
        width = float(t.ppf(0.975, len(found) - 1)) * stdev(found) / math.sqrt(len(found))
        return cls(mean(found), width)

    def __str__(self) -> str:
        text = short(self.mean)
        return text if self.half is None else f"{text} ± {short(self.half)}"


def short(value: float) -> str:
    """A number as tables show it."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
