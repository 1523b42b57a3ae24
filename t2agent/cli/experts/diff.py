"""``t2agent experts diff``: which layers and directions experts move.

A picture of what experts change: heat maps of layers and modules, and profiles by rank.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import expert_of, registry_of
from t2agent.cli.options import Model
from t2agent.cli.start import load
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from rich.console import RenderableType

    from t2agent.experts.compare import Comparison, ModuleChange


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="An expert's name or folder.")],
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="Another; the base model if not given.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the changes by layer and direction as a PNG."),
    ] = None,
    weighted: Annotated[
        bool,
        typer.Option(
            "--weighted",
            help="Rank directions by the change of the singular value, s |z - 1|; this loads and "
            "decomposes the base model.",
        ),
    ] = False,
    threshold: Annotated[
        float, typer.Option(min=0, help="|z - 1| from which a direction counts as moved.")
    ] = 0.01,
    top: Annotated[int, typer.Option(min=1, help="How many of each are shown.")] = 10,
    model: Model = AUTO,
    as_json: bool = False,
) -> Report:
    """Which layers and directions an expert moves, or where two agree and disagree."""
    registry = registry_of(model)
    one, other = expert_of(registry, a), None if b is None else expert_of(registry, b)
    from t2agent.experts.compare import compare

    bases = None
    if weighted:
        base = load(model, show=not as_json)
        for expert in (one, other):
            if expert is not None:
                base.registry.check(expert)
        base.decompose(progress=not as_json)
        bases = base.bases
    changes = compare(one, other, bases=bases, threshold=threshold, top=top)
    if plot is not None:
        draw(changes, plot)
    data = {"model": model, **changes.to_dict(), "plot": None if plot is None else str(plot)}
    return Report(data, _shown(changes, plot, top))


def _shown(changes: Comparison, plot: Path | None, top: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    a, b = changes.names
    rows = [f"{a}: |z - 1| = {changes.norm_a:.3g}, {changes.total('moved_a'):,} directions moved"]
    if b is not None:
        cosine = "not defined" if changes.cosine is None else f"{changes.cosine:.3f}"
        shared, opposed = changes.total("shared"), changes.total("opposed")
        rows += [
            f"{b}: |z - 1| = {changes.norm_b:.3g}, {changes.total('moved_b'):,} directions moved",
            f"cosine {cosine}; directions moved to one side: {shared:,}, to two: {opposed:,}",
        ]
    drawn = [Text(f"Drawn in {plot}")] if plot is not None else []
    return Group(*(Text(row) for row in rows), _modules(changes, top), _directions(changes), *drawn)


def _modules(changes: Comparison, top: int) -> RenderableType:
    a, b = changes.names
    most = sorted(changes.modules, key=lambda m: -max(m.a, m.b))[:top]
    columns = ["module", "directions", f"{a}: rms", "moved"]
    rows: list[tuple[object, ...]] = [(m.module, m.length, m.a, m.moved_a) for m in most]
    if b is not None:
        columns += [f"{b}: rms", "moved", "cosine", "shared", "opposed"]
        rest = [(m.b, m.moved_b, m.cosine, m.shared, m.opposed) for m in most]
        rows = [(*one, *other) for one, other in zip(rows, rest, strict=True)]
    title = f"Modules changed most, of {len(changes.modules)} (root mean square of z - 1)"
    return _table(title, columns, rows)


def _directions(changes: Comparison) -> RenderableType:
    a, b = changes.names
    weighted = any(direction.s is not None for direction in changes.directions)
    columns = ["module", "rank", f"{a}: z - 1", *([f"{b}: z - 1"] if b else [])]
    columns += ["singular value"] if weighted else []
    rows = [
        (d.module, d.rank, d.a, *([d.b] if b else []), *([d.s] if weighted else []))
        for d in changes.directions
    ]
    return _table("Directions moved most (rank 0 is the largest)", columns, rows)


def _table(title: str, columns: list[str], rows: Any) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        left = column == "module"
        table.add_column(Text(column), justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


_PER_LAYER = 0.18  # inches
_PER_KIND = 0.28
_MOST_NUMBERED = 40  # layers that each have their number on the axis


def draw(changes: Comparison, path: Path) -> None:
    """Write a PNG: for each expert the rms of z - 1 by layer and kind of module, for two also the
    cosine, and below the mean |z - 1| by relative rank of the direction."""
    from matplotlib.figure import Figure

    from t2agent.files import write_figure

    a, b = changes.names
    largest = max([0.0, *(max(module.a, module.b) for module in changes.modules)]) or 1.0
    maps: list[tuple[str, Callable[[ModuleChange], float | None], dict[str, Any]]] = [
        (f"{a}: rms of z - 1", lambda m: m.a, {"vmin": 0, "vmax": largest})
    ]
    if b is not None:
        maps += [
            (f"{b}: rms of z - 1", lambda m: m.b, {"vmin": 0, "vmax": largest}),
            ("cosine of the two", lambda m: m.cosine, {"vmin": -1, "vmax": 1, "cmap": "RdBu"}),
        ]
    one_stack = len({module.place.stack for module in changes.modules}) == 1
    names = {module.module: _row(module, one_stack) for module in changes.modules}
    rows = sorted(set(names.values()))
    columns = sorted({_column(module) for module in changes.modules})
    height = max(1.4, 0.7 + _PER_KIND * len(rows))
    width = min(40.0, max(7.0, 3.0 + _PER_LAYER * len(columns)))
    figure = Figure(figsize=(width, height * len(maps) + 2.6), layout="constrained")
    ratios = [height] * len(maps) + [2.6]
    panels = figure.subplots(len(ratios), height_ratios=ratios, squeeze=False)[:, 0]
    for axes, (title, value, options) in zip(panels, maps, strict=False):
        grid = [[float("nan")] * len(columns) for _ in rows]
        for module in changes.modules:
            shown = value(module)
            if shown is not None:
                grid[rows.index(names[module.module])][columns.index(_column(module))] = shown
        image = axes.imshow(grid, aspect="auto", interpolation="nearest", **options)
        figure.colorbar(image, ax=axes, pad=0.01)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        if len(columns) <= _MOST_NUMBERED:
            labels = ["-" if column < 0 else str(column) for column in columns]
            axes.set_xticks(range(len(columns)), labels, fontsize=7)
        axes.set_xlabel("layer", fontsize=8)
    below = panels[-1]
    for name, profile in zip(changes.names, changes.profiles, strict=True):
        if name is not None:
            parts = len(profile)
            below.plot([(k + 0.5) / parts for k in range(parts)], profile, label=name)
    below.set(xlabel="relative rank of the direction (0: largest singular value)",
              ylabel="mean |z - 1|", xlim=(0, 1))  # fmt: skip
    below.set_ylim(bottom=0)
    below.legend(frameon=False)
    write_figure(path, figure)


def _row(module: ModuleChange, one_stack: bool) -> str:
    stack, _, kind = module.place
    return kind if one_stack else f"{stack} {kind}".strip()


def _column(module: ModuleChange) -> int:
    """The layer; -1 for what is outside the layers."""
    layer = module.place.layer
    return -1 if layer is None else layer
