"""The figures of a run, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from t2agent.bench.charts import bars, height, plain_axes, write_chart
from t2agent.bench.paper.comparison import Comparison
from t2agent.bench.paper.experiments import ONLINE
from t2agent.bench.paper.findings import Findings
from t2agent.bench.paper.training import METHODS
from t2agent.bench.table import Table

Drawing = tuple[str, tuple[float, float], Callable[[Any], None]]
"""A name, a size in inches, and what draws on a figure."""


def draw_all(findings: Findings, folder: Path) -> list[str]:
    """Write every figure into the folder; their names."""
    drawn = []
    for name, size, draw in _figures(findings):
        drawn.append(f"{name}.png")
        write_chart(folder / drawn[-1], size, draw)
    return drawn


def _figures(findings: Findings) -> Iterator[Drawing]:
    domains, has = findings.run.suite.domains, findings.run.plan.has
    if has("experts"):
        yield "experts", (7.5, 6.0), partial(_heat, table=findings.experts())
    if has("strategies"):
        for strategy in ONLINE:
            table = findings.confusion(strategy)
            yield f"confusion-{strategy}", (7.5, 6.0), partial(_heat, table=table)
    if findings.has_few_shot:
        yield from _few_shot(findings)
    if findings.has_unseen:
        yield "unseen", (10.0, 4.5), partial(_bars, table=findings.unseen())
    if any(findings.run.trained.curve(d, findings.run.plan.seeds[0]) for d in domains):
        yield "curves", (8.0, 4.5), partial(_curves, findings=findings)
    if has("methods"):
        comparison = Comparison(findings.run)
        yield "methods", (7.5, 4.5), partial(_methods, comparison=comparison)


def _few_shot(findings: Findings) -> Iterator[Drawing]:
    found = findings.weights()  # the last column is seconds
    kept = replace(found, columns=found.columns[:-1], rows=[row[:-1] for row in found.rows])
    yield "weights", (7.5, 4.0), partial(_heat, table=kept, most=1.5)
    yield "scaling", (6.0, 4.0), partial(_scaling, findings=findings)


def _heat(figure: Any, table: Table, most: float = 1.0) -> None:
    axes = figure.add_subplot()
    values = [[height(cell) for cell in row[1:]] for row in table.rows]
    axes.imshow(values, vmin=0, vmax=most, cmap="Blues", aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            colour = "white" if value > 0.6 * most else "black"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    names, columns = [str(row[0]) for row in table.rows], table.columns[1:]
    axes.set(xticks=range(len(columns)), yticks=range(len(names)), yticklabels=names)
    axes.set_xticklabels(columns, rotation=30, ha="right")
    axes.set_title(table.title, fontsize=9, loc="left")


def _curves(figure: Any, findings: Findings) -> None:
    axes = plain_axes(figure)
    for domain in findings.run.suite.domains:
        runs = [findings.run.trained.curve(domain, seed) for seed in findings.run.plan.seeds]
        steps = sorted({row["step"] for run in runs for row in run if row["reward"] is not None})
        by_step = {
            step: [row["reward"] for run in runs for row in run if row["step"] == step]
            for step in steps
        }
        axes.plot(steps, [mean(by_step[step]) for step in steps], label=domain)
    axes.set(xlabel="step", ylabel="mean reward of the samples", ylim=(-1.02, 1.02))
    axes.set_title(
        "Learning curves, means over seeds that are still training", fontsize=9, loc="left"
    )
    axes.legend(frameon=False, ncols=2)


def _methods(figure: Any, comparison: Comparison) -> None:
    axes = plain_axes(figure)
    beside = {
        "reinforce": ("policy gradient", 0.97, "tab:blue"),
        "sft": ("next token", 1.03, "tab:orange"),
    }
    adapters: dict[str, int] = {}  # two may have as many parameters
    for name in comparison.run.trained.compared:
        own, sibling = (comparison.mean(name, key) for key in ("own", "sibling"))
        if own is None or METHODS[name].foreign:
            continue
        parameters = comparison.parameters(name)
        adapters[name.removesuffix("-sft").replace("-", "\n")] = parameters
        label, factor, colour = beside[METHODS[name].objective]
        at = parameters * factor
        axes.plot([at], [own.mean], "o", color=colour, label=label)
        if sibling is not None:
            axes.plot([at], [sibling.mean], "o", fillstyle="none", color=colour)
            axes.plot([at, at], [own.mean, sibling.mean], color=colour, lw=0.7)
    axes.set(xscale="log", xlabel="trained parameters", ylabel="accuracy")
    ticks = [f"{parameters:,}\n{name}" for name, parameters in adapters.items()]
    axes.set_xticks(list(adapters.values()), ticks, fontsize=7)
    axes.minorticks_off()
    axes.set_title("Filled: own task, hollow: sibling", fontsize=9, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    one_each = dict(zip(labels, handles, strict=True))
    axes.legend(one_each.values(), one_each.keys(), frameon=False)


def _scaling(figure: Any, findings: Findings) -> None:
    axes = plain_axes(figure)
    shots = findings.run.plan.scaling
    for row in findings.scaling().rows:
        cells: Sequence[Any] = row[1:]
        halves = [cell.half or 0.0 for cell in cells]
        axes.errorbar(shots, [height(cell) for cell in cells], halves, label=str(row[0]), capsize=3)
    axes.set(xscale="log", xticks=shots, xticklabels=[str(k) for k in shots], ylim=(0, 1.05))
    axes.set(xlabel="examples", ylabel="accuracy of the mixture found")
    axes.legend(frameon=False)


def _bars(figure: Any, table: Table) -> None:
    axes = plain_axes(figure)
    names, *cells = zip(*table.rows, strict=True)
    bars(axes, dict(zip(table.columns[1:], cells, strict=True)))
    axes.set(xticks=range(len(names)), ylim=(0, 1.05), ylabel="accuracy")
    axes.set_xticklabels(names, rotation=20, ha="right")
    axes.set_title(table.title, fontsize=9, loc="left")
    figure.legend(frameon=False, ncols=4, loc="outside lower center", fontsize=8)
