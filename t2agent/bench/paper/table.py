"""Means over seeds with their intervals, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and half the width of its 95 % interval, None where there is one value."""

    mean: float
    half: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Of the values of several seeds: Student's t on their standard deviation."""
        from scipy.stats import t

        found = list(values)
        if len(found) < 2:
            return cls(mean(found))
        width = float(t.ppf(0.975, len(found) - 1)) * stdev(found) / math.sqrt(len(found))
        return cls(mean(found), width)

    def __str__(self) -> str:
        text = _short(self.mean)
        return text if self.half is None else f"{text} ± {_short(self.half)}"


Cell = str | int | float | Interval | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report: ``note`` says how to read it."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """The table under a heading, in Markdown."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += [_line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line([_shown(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, object]:
        """Plain JSON; an interval is {"mean": ..., "half": ...}."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[_plain(cell) for cell in row] for row in self.rows],
            "note": self.note,
        }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(cell: Cell) -> object:
    return {"mean": cell.mean, "half": cell.half} if isinstance(cell, Interval) else cell


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return (
        _short(cell)
        if isinstance(cell, float)
        else f"{cell:,}"
        if isinstance(cell, int)
        else str(cell)
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
