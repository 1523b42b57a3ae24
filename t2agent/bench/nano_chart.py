"""The accuracy table of t2-nano for a terminal and as a chart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from rich.table import Table as RichTable

from t2agent.bench.nano_accuracy import Table
from t2agent.files import write_bytes

COLUMNS = ("base", "wrong expert", "right expert", "dispatched")


def summary(table: Table) -> dict[str, dict[str, float]]:
    """Task -> accuracy of each of ``COLUMNS``; the wrong experts' is their mean."""
    rows: dict[str, dict[str, float]] = {}
    for task, scores in table.by_expert.items():
        wrong = [value for name, value in scores.items() if name not in ("base", task)]
        rows[task] = {"base": scores["base"]}
        if wrong:
            rows[task]["wrong expert"] = mean(wrong)
        if task in scores:
            rows[task]["right expert"] = scores[task]
        if task in table.dispatched:
            rows[task]["dispatched"] = table.dispatched[task]
    return rows


def rich_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> RichTable:
    """Tasks down, columns across, accuracies with two decimals."""
    columns: Sequence[str] = list(dict.fromkeys(c for scores in rows.values() for c in scores))
    drawn = RichTable(title=title)
    drawn.add_column("task")
    for column in columns:
        drawn.add_column(column, justify="right")
    for task, scores in rows.items():
        drawn.add_row(task, *(f"{scores[c]:.2f}" if c in scores else "" for c in columns))
    return drawn


def bar_chart(path: Path, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write the rows as a PNG of grouped bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(c for scores in rows.values() for c in scores))
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(columns)
    for place, column in enumerate(columns):
        at = [i - 0.4 + (place + 0.5) * width for i in range(len(rows))]
        heights = [scores.get(column, 0.0) for scores in rows.values()]
        bars = axes.bar(at, heights, width * 0.92, label=column)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set(xticks=range(len(rows)), xticklabels=list(rows), ylim=(0, 1.08), title=title)
    axes.set_ylabel("right answers, strictly scored")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=len(columns), loc="outside lower center")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_bytes(path, image.getvalue())
