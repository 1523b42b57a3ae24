"""``t2agent experts transfer``: an expert of one base model for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import check_free, expert_of, registry_of
from t2agent.cli.options import ExpertOrFolder, Replace, Targets, named_model
from t2agent.cli.start import load
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.experts.transfer import TransferReport


def transfer(
    name: ExpertOrFolder,
    to: Annotated[
        str,
        typer.Option("--to", metavar="MODEL", callback=named_model, help="The new base model."),
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="BASE", callback=named_model, help="The base model that it is for."
        ),
    ] = AUTO,
    new: Annotated[
        str | None,
        typer.Option("--name", "-n", help="The new expert's name; by default the old."),
    ] = None,
    layers: Annotated[
        Literal["depth", "index"],
        typer.Option(
            help="Where the numbers of layers differ, a layer takes the one at the nearest "
            "relative depth, or the one of its number."
        ),
    ] = "depth",
    directions: Annotated[
        Literal["rank", "relative"],
        typer.Option(
            help="Where the numbers of directions differ, a direction takes the one of its rank, "
            "or the one at the nearest relative rank."
        ),
    ] = "rank",
    source_layers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Layers of BASE, where the expert was not trained up to the last one."
        ),
    ] = None,
    targets: Targets = "all",
    replace: Replace = False,
    as_json: bool = False,
) -> Report:
    """Carry an expert over to another base model, by stated rules, and say what matched."""
    expert = expert_of(registry_of(source), name)
    named = new or expert.name
    check_free(registry_of(to), named, replace=replace)
    model = load(to, targets=targets, show=not as_json)
    from t2agent.experts.transfer import transfer as carry_over

    result = carry_over(
        expert,
        model,
        name=named,
        layers=layers,
        directions=directions,
        source_layers=source_layers,
    )
    model.registry.register(result.expert, replace=replace, persist=True)
    folder = model.registry.source(named)
    data = {
        "name": named,
        "from": source,
        "model": to,
        "folder": folder,
        "parameters": result.expert.parameters,
        "report": {
            **result.report.to_dict(),
            "matches": [match._asdict() for match in result.report.matches],
            "unused": list(result.report.unused),
            "untouched": list(result.report.untouched),
        },
    }
    hint = f"What it is worth there: t2agent experts eval {named} --model {to} --task ..."
    return Report(data, "\n".join([*_told(result.report), f"Saved in {folder}", "", hint]))


def _told(report: TransferReport) -> list[str]:
    plain, counts = report.to_dict(), report.counts()
    depths = ", ".join(
        f"{old} {stack or 'modules'} there and {new} here"
        for stack, (old, new) in report.depths.items()
    )
    shares = f"{report.kept_directions:.1%} of {report.moved:,} directions"
    rows = [
        "Exact: every vector as it was." if report.exact else f"Not exact: {depths}.",
        f"modules with the vector of the same layer: {counts['same layer']}",
        f"modules with that of another layer: {counts['other layer']} (rule: {report.layers})",
        f"vectors cut: {counts['cut']}, extended: {counts['extended']} (rule: {report.directions})",
        f"kept of what the expert moves: {shares}, {report.kept_norm:.1%} of (z - 1)^2",
    ]
    for what, key in (("of the expert, unused", "unused"), ("here, left as they are", "untouched")):
        if counts[key]:
            rows.append(f"modules {what}: {counts[key]} ({', '.join(plain[f'kinds {key}'])})")
    return rows
