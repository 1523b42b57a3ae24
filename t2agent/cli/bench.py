"""``t2agent bench``: reproducible tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.bench import BENCHMARKS, figures, run
from t2agent.cli.command import Report
from t2agent.cli.options import Settings, parsed

if TYPE_CHECKING:
    from rich.console import RenderableType

_ALL = "all"
_LIST = "list"


def bench(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help=f"{', '.join(BENCHMARKS)}; {_ALL} of them; or {_LIST} them."
        ),
    ] = _LIST,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the figures as a PNG.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="For some: small sizes.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="paper, training, agent, real: the base model."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", help="paper, with --model: a real task or a JSON-lines file; may be repeated."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="real: where the files of rows are."),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", metavar="FOLDER", help="real: other files of the same forms."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="real: files to measure by how their names begin."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="paper, real: where report and figures go."),
    ] = None,
    settings: Settings = None,
) -> Report:
    """Measure on this machine, and print the figures beside those that are wanted."""
    from rich.console import Group
    from rich.table import Table

    if name == _LIST:
        table = Table("name", "what is measured")
        for key, benchmark in BENCHMARKS.items():
            table.add_row(key, benchmark.about)
        return Report({key: benchmark.about for key, benchmark in BENCHMARKS.items()}, table)
    options = {"quick": quick, "model": model, "task": task, "out": out}
    options |= {"data": data, "held_out": held_out, "kind": kind}
    chosen = parsed(settings) | {key: value for key, value in options.items() if value}
    results, missing = _all(chosen) if name == _ALL else ({name: run(name, **chosen)}, {})
    if plot is not None:
        _draw(plot, {key: figures(result) for key, result in results.items()})
    told: dict[str, Any] = {
        key: {"results": result, "wanted": {k: str(w) for k, w in BENCHMARKS[key].wanted.items()}}
        for key, result in results.items()
    }
    told |= {key: {"not_measured": why} for key, why in missing.items()}
    tables: list[RenderableType] = []
    for key, result in results.items():
        if BENCHMARKS[key].tables:
            tables += map(_printed, result["tables"].values())
        tables.append(_table(key, result))
    tables += [f"Report: {result['report']}" for result in results.values() if "report" in result]
    return Report(
        told, Group(*tables, *(f"{key}: not measured, {missing[key]}" for key in missing))
    )


def _all(chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Results of all benchmarks, and why some could not run: their data does not ship."""
    from t2agent.errors import ConfigError

    results, missing = {}, {}
    for key, benchmark in BENCHMARKS.items():
        if benchmark.long:
            missing[key] = f"it takes hours; run it by its name: t2agent bench {key}"
            continue
        try:
            results[key] = run(key, **chosen)
        except ConfigError as error:
            missing[key] = str(error)
    if not results:
        raise ConfigError("; ".join(dict.fromkeys(missing.values())))
    return results, missing


def _printed(given: Mapping[str, Any]) -> RenderableType:
    """A table of `t2agent.bench.table` that has become JSON."""
    from rich.table import Table

    from t2agent.bench.table import shown
    from t2agent.train.confidence import Interval

    table = Table(*given["columns"], title=given["title"], caption=given["note"])
    for row in given["rows"]:
        cells = (Interval(**cell) if isinstance(cell, dict) else cell for cell in row)
        table.add_row(*map(shown, cells))
    return table


def _table(name: str, result: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    benchmark = BENCHMARKS[name]
    table = Table(title=benchmark.about, title_justify="left")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("wanted")
    for key, value in figures(result).items():
        wanted = benchmark.wanted.get(key)
        if benchmark.tables and wanted is None:
            continue  # printed already
        style = "" if wanted is None else "green" if wanted.met(value) else "red"
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key, Text(shown, style=style), str(wanted or ""))
    return table


def _draw(path: Path, results: Mapping[str, Mapping[str, float]]) -> None:
    """One bar a figure, each on its own scale, with a line at what is wanted.

    Of a benchmark that wants some of them, those figures; of another, all.
    """
    from matplotlib.figure import Figure

    from t2agent.files import write_figure

    bars = [
        (f"{name}: {key}", value, BENCHMARKS[name].wanted.get(key))
        for name, result in results.items()
        for key, value in result.items()
        if key in BENCHMARKS[name].wanted or not BENCHMARKS[name].wanted.keys() & result.keys()
    ]
    figure = Figure(figsize=(7.0, 0.6 + 0.7 * len(bars)), layout="constrained")
    rows = figure.subplots(len(bars), squeeze=False)[:, 0]
    for axes, (label, value, wanted) in zip(rows, bars, strict=True):
        axes.bar_label(axes.barh([0], [value], color="tab:blue", height=0.6), fmt="%.3g", padding=3)
        if wanted is not None:
            axes.axvline(wanted.value, color="tab:orange")
            label = f"{label} (wanted {wanted})"
        axes.set_yticks([])
        axes.set_title(label, fontsize=9, loc="left")
        axes.margins(x=0.15)
        axes.spines[["top", "right", "left"]].set_visible(False)
    write_figure(path, figure)
