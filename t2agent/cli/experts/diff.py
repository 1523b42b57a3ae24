"""``t2agent experts diff``: which layers and directions experts move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report, command
from t2agent.cli.experts.naming import expert_of, registry_of
from t2agent.cli.options import Model
from t2agent.cli.start import load, starting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from t2agent.experts.compare import Comparison


def add_to(experts: typer.Typer) -> None:
    """Make the command known."""
    command(experts, "diff")(diff)


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
    model: Model = "t2-nano",
    as_json: bool = False,
) -> Report:
    """Which layers and directions an expert moves, or where two agree and disagree."""
    registry = registry_of(model)
    one, other = expert_of(registry, a), None if b is None else expert_of(registry, b)
    from t2agent.experts.compare import compare

    bases = None
    if weighted:
        with starting(f"Loading {model}", show=not as_json):
            base = load(model)
        for expert in (one, other):
            if expert is not None:
                base.registry.check(expert)
        base.decompose(progress=not as_json)
        bases = base.bases
    found = compare(one, other, bases=bases, threshold=threshold, top=top)
    if plot is not None:
        from t2agent.cli.experts.diff_figure import draw

        draw(found, plot)
    data = {"model": model, **found.to_dict(), "plot": None if plot is None else str(plot)}
    return Report(data, _shown(found, plot, top))


def _shown(found: Comparison, plot: Path | None, top: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    a, b = found.names
    rows = [f"{a}: |z - 1| = {found.norm_a:.3g}, {found.total('moved_a'):,} directions moved"]
    if b is not None:
        cosine = "not defined" if found.cosine is None else f"{found.cosine:.3f}"
        shared, opposed = found.total("shared"), found.total("opposed")
        rows += [
            f"{b}: |z - 1| = {found.norm_b:.3g}, {found.total('moved_b'):,} directions moved",
            f"cosine {cosine}; directions moved to one side: {shared:,}, to two: {opposed:,}",
        ]
    drawn = [Text(f"Drawn in {plot}")] if plot is not None else []
    return Group(*(Text(row) for row in rows), _modules(found, top), _directions(found), *drawn)


def _modules(found: Comparison, top: int) -> RenderableType:
    a, b = found.names
    most = sorted(found.modules, key=lambda m: -max(m.a, m.b))[:top]
    columns = ["module", "directions", f"{a}: rms", "moved"]
    rows: list[tuple[object, ...]] = [(m.module, m.length, m.a, m.moved_a) for m in most]
    if b is not None:
        columns += [f"{b}: rms", "moved", "cosine", "shared", "opposed"]
        rest = [(m.b, m.moved_b, m.cosine, m.shared, m.opposed) for m in most]
        rows = [(*one, *other) for one, other in zip(rows, rest, strict=True)]
    title = f"Modules changed most, of {len(found.modules)} (root mean square of z - 1)"
    return _table(title, columns, rows)


def _directions(found: Comparison) -> RenderableType:
    a, b = found.names
    known = any(direction.s is not None for direction in found.directions)
    columns = ["module", "rank", f"{a}: z - 1", *([f"{b}: z - 1"] if b else [])]
    columns += ["singular value"] if known else []
    rows = [
        (d.module, d.rank, d.a, *([d.b] if b else []), *([d.s] if known else []))
        for d in found.directions
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
