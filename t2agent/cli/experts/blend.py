"""``t2agent experts blend``: a mixture becomes one expert."""

from __future__ import annotations

from typing import Annotated

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import Mixing, check_free, mixture_of, registry_of
from t2agent.cli.options import Description, Model, Replace
from t2agent.models.installed import AUTO


def blend(
    name: Annotated[str, typer.Argument(metavar="NEW", help="The new expert's name.")],
    mixture: Mixing = None,
    description: Description = "",
    model: Model = AUTO,
    replace: Replace = False,
) -> Report:
    """Save a mixture of experts, per-layer weights too, as one expert in the user's folder."""
    if not mixture:
        raise typer.BadParameter("give the experts and their weights", param_hint="--of")
    wanted = mixture_of(mixture)
    registry = registry_of(model)
    check_free(registry, name, replace=replace)
    expert = registry.blend(wanted, name, description=description)
    registry.register(expert, replace=replace, persist=True)
    folder = registry.source(name)
    data = {
        "name": name,
        "model": model,
        "folder": folder,
        "parameters": expert.parameters,
        "mixture": wanted.to_dict(),
    }
    return Report(data, f"{name}: {expert.parameters:,} parameters\nSaved in {folder}")
