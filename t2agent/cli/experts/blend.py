"""``t2agent experts blend``: a mixture becomes one expert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report, command
from t2agent.cli.experts.finding import check_free, registry_of
from t2agent.cli.options import Model

if TYPE_CHECKING:
    from t2agent.mixture import Mixture


def add_to(experts: typer.Typer) -> None:
    """Make the command known."""
    command(experts, "blend")(blend)


def blend(
    name: Annotated[str, typer.Argument(metavar="NEW", help="The new expert's name.")],
    of: Annotated[
        list[str] | None,
        typer.Option("--of", metavar="NAME=WEIGHT", help="An expert's weight; may be repeated."),
    ] = None,
    mixture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='A mixture instead, {"weights": {NAME: WEIGHT}, "layers": {PREFIX: {NAME: '
            "WEIGHT}}}: a prefix of module names has weights of its own.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="What the expert is for.")] = "",
    model: Model = "t2-nano",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an expert of that name.")
    ] = False,
) -> Report:
    """Save a mixture of experts, per-layer weights too, as one expert in the user's folder."""
    if (mixture is None) == (not of):
        raise typer.BadParameter("give either --of, once or more, or --mixture", param_hint="--of")
    wanted = _read(mixture) if mixture is not None else _weights(of or [])
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


def _weights(given: list[str]) -> Mixture:
    from t2agent.mixture import Mixture

    weights: dict[str, float] = {}
    for one in given:
        name, equals, weight = one.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name or name in weights:
            problem = "is given twice" if name in weights else "is not NAME=WEIGHT"
            raise typer.BadParameter(f"{one!r} {problem}", param_hint="--of")
        weights[name] = value
    return Mixture(weights)


def _read(file: Path) -> Mixture:
    from t2agent.errors import ConfigError
    from t2agent.mixture import Mixture

    try:
        plain: Any = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON ({error})") from error
    return Mixture.from_dict(plain)
