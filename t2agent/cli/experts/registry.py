"""``t2agent experts list``, ``show``, ``add`` and ``remove``: the registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import registry_of
from t2agent.cli.options import Model, ModelOrCard, Replace
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.experts.registry import Registry

Eligible = Annotated[
    bool | None,
    typer.Option(
        "--eligible/--not-eligible",
        help="Whether dispatch may choose it by itself, whatever its card shows.",
        show_default="once its card shows that it beats the base model",
    ),
]

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The expert's name.")]


def list_experts(model: Model = AUTO) -> Report:
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
    for column in ("name", "modality", "parameters", "scores", "dispatched", "origin", "what for"):
        table.add_column(column, justify="right" if column == "parameters" else "left",
                         overflow="fold", no_wrap=column in ("name", "modality"))  # fmt: skip
    for row in rows:
        table.add_row(
            row["name"],
            row["modality"],
            f"{row['parameters']:,}",
            Text(_scores(row["scores"])),
            Text(_told(row["eligible"], row["eligible_reason"])),
            Text(row["origin"]),
            Text(row["description"]),
        )
    shown: list[Any] = [table if rows else Text(f"No experts for {model}.")]
    shown += [Text(f"Left out: {problem['problem']}", style="yellow") for problem in problems]
    return Report(data, Group(*shown))


def show(name: _Name, model: Model = AUTO) -> Report:
    """One expert's card."""
    from rich.table import Table
    from rich.text import Text

    registry = registry_of(model)
    card = registry.card(name)
    parameters = registry.parameters(name)
    origin = registry.source(name)
    pin = registry.pin(name)
    eligible, reason = _eligible(registry, name)
    data = {
        **card.to_dict(),
        "parameters": parameters,
        "origin": origin,
        "eligible": eligible,
        "eligible_reason": reason,
    }
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
        "dispatched": _told(eligible, reason),
        "scores": "\n".join(f"{key}: {value}" for key, value in card.scores.items()),
        "training": "\n".join(f"{key}: {value}" for key, value in card.training.items()),
        f"examples ({len(card.examples)})": "\n".join(card.examples[:5]),
        f"not for ({len(card.negatives)})": "\n".join(card.negatives[:5]),
    }
    for key, value in shown.items():
        if value:
            table.add_row(key, Text(value))
    return Report(data, table)


def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The expert's folder.")],
    model: ModelOrCard = None,
    replace: Replace = False,
    eligible: Eligible = None,
) -> Report:
    """Copy an expert into the user's folder, where every later process finds it."""
    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry, base_for

    expert = Expert.load(folder)
    base = base_for(expert, model)
    registry = Registry(base)
    registry.register(expert, replace=replace, persist=True, eligible=eligible)
    origin = registry.source(expert.name)
    found = _eligible(registry, expert.name)
    data = {"name": expert.name, "model": base, "folder": origin, "eligible": found[0]}
    return Report(data, f"Added {expert.name} for {base}: {origin}\nDispatched: {_told(*found)}")


def set_eligible(
    name: _Name,
    eligible: Annotated[
        bool | None,
        typer.Option("--yes/--no", help="What to say.", show_default="leave it to its card"),
    ] = None,
    model: Model = AUTO,
) -> Report:
    """Say whether dispatch may choose an expert by itself, whatever its card shows.

    Asked for by name, every expert answers. With neither --yes nor --no, its card decides again.
    """
    registry = registry_of(model)
    registry.set_eligible(name, eligible, persist=True)
    found = _eligible(registry, name)
    data = {"name": name, "model": model, "eligible": found[0], "eligible_reason": found[1]}
    return Report(data, f"{name}: {_told(*found)}")


def remove(name: _Name, model: Model = AUTO) -> Report:
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
        **dict(zip(("eligible", "eligible_reason"), _eligible(registry, name), strict=True)),
    }


def _eligible(registry: Registry, name: str) -> tuple[bool, str]:
    """Whether dispatch may choose it by itself, and why."""
    from t2agent.dispatch.dispatcher import CLASSIFIER

    if name == CLASSIFIER:
        return False, "it answers dispatch's own question"
    found = registry.eligible(name)
    return found.eligible, found.reason


def _told(eligible: bool, reason: str) -> str:
    return f"{'yes' if eligible else 'no'}: {reason}"


def _scores(scores: dict[str, Any]) -> str:
    numbers = {k: v for k, v in scores.items() if isinstance(v, int | float)}
    return "\n".join(f"{key} {value:.3g}" for key, value in numbers.items())
