"""``t2agent experts list``, ``show``, ``add`` and ``remove``: the registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import registry_of
from t2agent.cli.options import Model, ModelOrCard, Replace

if TYPE_CHECKING:
    from t2agent.experts.registry import Registry

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The expert's name.")]


def list_experts(model: Model = "t2-nano") -> Report:
    """The experts that a base model can use, and those that are there but unusable."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    registry = registry_of(model)
    rows = [_row(registry, name) for name in registry.names()]
    problems = [
        {"where": where, "problem": str(error)} for where, error in registry.problems.items()
    ]
    data = {"model": model, "experts": rows, "problems": problems}
    table = Table(title=f"Experts for {model}", title_justify="left")
    for column in ("name", "modality", "parameters", "scores", "origin", "what for"):
        table.add_column(column, justify="right" if column == "parameters" else "left",
                         overflow="fold", no_wrap=column in ("name", "modality"))  # fmt: skip
    for row in rows:
        table.add_row(
            row["name"],
            row["modality"],
            f"{row['parameters']:,}",
            Text(_scores(row["scores"])),
            Text(row["origin"]),
            Text(row["description"]),
        )
    shown: list[Any] = [table if rows else Text(f"No experts for {model}.")]
    shown += [Text(f"Left out: {problem['problem']}", style="yellow") for problem in problems]
    return Report(data, Group(*shown))


def show(name: _Name, model: Model = "t2-nano") -> Report:
    """One expert's card."""
    from rich.table import Table
    from rich.text import Text

    registry = registry_of(model)
    card = registry.card(name)
    parameters = registry.parameters(name)
    origin = registry.source(name)
    pin = registry.pin(name)
    data = {**card.to_dict(), "parameters": parameters, "origin": origin}
    if pin is not None:
        data["pin"] = pin.to_dict()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    shown = {
        "name": card.name,
        "what for": card.description,
        "modality": card.modality,
        "parameters": f"{parameters:,}",
        "base model": card.base,
        "fingerprint": card.base_fingerprint,
        "origin": origin,
        "pulled from": str(pin.address) if pin is not None else "",
        "license": card.license,
        "scores": "\n".join(f"{key}: {value}" for key, value in card.scores.items()),
        "training": "\n".join(f"{key}: {value}" for key, value in card.training.items()),
        f"examples ({len(card.examples)})": "\n".join(card.examples[:5]),
    }
    for key, value in shown.items():
        if value:
            table.add_row(key, Text(value))
    return Report(data, table)


def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The expert's folder.")],
    model: ModelOrCard = None,
    replace: Replace = False,
) -> Report:
    """Copy an expert into the user's folder, where every later process finds it."""
    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry

    expert = Expert.load(folder)
    base = model or expert.card.base or "t2-nano"
    registry = Registry(base)
    registry.register(expert, replace=replace, persist=True)
    origin = registry.source(expert.name)
    data = {"name": expert.name, "model": base, "folder": origin}
    return Report(data, f"Added {expert.name} for {base}: {origin}")


def remove(name: _Name, model: Model = "t2-nano") -> Report:
    """Delete an expert from the user's folder. Experts of packages stay."""
    registry = registry_of(model, there=False)  # experts stay where their model has been deleted
    registry.unregister(name, persist=True)
    # One that was hidden by it, such as a shipped expert of the same name, is back now.
    again = registry_of(model, there=False)
    uncovered = again.source(name) if name in again else None
    text = f"Removed {name} for {model}."
    if uncovered:
        text += f" Now {name} is the one in {uncovered}."
    return Report({"name": name, "model": model, "uncovered": uncovered}, text)


def _row(registry: Registry, name: str) -> dict[str, Any]:
    card = registry.card(name)
    return {
        "name": name,
        "modality": card.modality,
        "description": card.description,
        "parameters": registry.parameters(name),
        "scores": dict(card.scores),
        "origin": registry.source(name),
    }


def _scores(scores: dict[str, Any]) -> str:
    numbers = {k: v for k, v in scores.items() if isinstance(v, int | float)}
    return "\n".join(f"{key} {value:.3g}" for key, value in numbers.items())
