"""Means over seeds with their intervals, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2agent.train.confidence import Interval, short

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
        lines += [_line([shown(cell) for cell in row]) for row in self.rows]
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


def shown(cell: Cell) -> str:
    """A cell as a table shows it."""
    if cell is None:
        return ""
    return (
        short(cell)
        if isinstance(cell, float)
        else f"{cell:,}"
        if isinstance(cell, int)
        else str(cell)
    )
