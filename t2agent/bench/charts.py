"""Charts as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t2agent.files import write_figure
from t2agent.train.confidence import Interval


def write_chart(
    path: Path, size: tuple[float, float], draw: Callable[[Any], object], dpi: int = 110
) -> None:
    """Write what ``draw`` draws on a figure (``size`` in inches) as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    write_figure(path, figure, dpi)


def plain_axes(figure: Any) -> Any:
    """Axes without a frame above and to the right."""
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def bars(axes: Any, columns: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Groups of bars side by side, at 0, 1 and so on, one bar of each column in a group; the bars
    of each column. A bar's height is a number or the mean of an `Interval`, which is drawn too."""
    width = 0.85 / len(columns)
    drawn = []
    for place, (label, cells) in enumerate(columns.items()):
        at = [i - 0.425 + (place + 0.5) * width for i in range(len(cells))]
        halves = [cell.half or 0.0 if isinstance(cell, Interval) else 0.0 for cell in cells]
        style = {"yerr": halves, "error_kw": {"lw": 0.7}} if any(halves) else {}
        drawn.append(axes.bar(at, list(map(height, cells)), width * 0.92, label=label, **style))
    return drawn


def height(cell: Any) -> float:
    """What is drawn of a number, an `Interval` or nothing."""
    return cell.mean if isinstance(cell, Interval) else float(cell or 0.0)
