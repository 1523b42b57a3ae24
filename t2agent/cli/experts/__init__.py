"""``t2agent experts``: what people do with experts, one file a subject."""

from __future__ import annotations

import typer

from t2agent.cli.experts import (
    blend,
    diff,
    evaluate,
    exporting,
    hub,
    importing,
    new,
    registry,
    transfer,
)

experts = typer.Typer(help="Experts: list, make, share and take elsewhere.", no_args_is_help=True)

for _part in (registry, hub, new, blend, diff, evaluate, transfer, exporting, importing):
    _part.add_to(experts)


def add_to(app: typer.Typer) -> None:
    """Make ``t2agent experts`` known."""
    app.add_typer(experts, name="experts")
