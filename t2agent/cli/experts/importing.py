"""``t2agent experts import``: experts from what other programs trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import check_free, registry_of
from t2agent.cli.options import Description, Model, Replace, Targets
from t2agent.cli.start import load
from t2agent.experts.card import NAME_LENGTH, check_name
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.models.exchange.peft_import import LoraImport

_HALF = 0.5


def import_expert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The authors' .pt file, or the folder of a PEFT adapter."
        ),
    ],
    kind: Annotated[
        Literal["sakana", "peft"],
        typer.Option(
            "--format",
            "-f",
            help="A checkpoint of github.com/SakanaAI/self-adaptive-llms, or a LoRA by PEFT.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "-n", help="The new expert's name.", show_default="made of the file's name"
        ),
    ] = None,
    model: Model = AUTO,
    targets: Targets = "all",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Where to save it, instead of registering it."
        ),
    ] = None,
    description: Description = "",
    replace: Replace = False,
    as_json: bool = False,
) -> Report:
    """Make an expert of an authors' checkpoint or of a LoRA adapter, and register it."""
    from rich.console import Group
    from rich.text import Text

    # Whatever can be wrong is found before the base model is loaded.
    name = check_name(_name_of(source) if name is None else name)
    if out is None:
        check_free(registry_of(model), name, replace=replace)
    base = load(model, targets=targets, show=not as_json)
    base.decompose(progress=not as_json)
    from t2agent.models.exchange import import_lora, import_sakana

    if kind == "sakana":
        expert = import_sakana(source, base, name, description=description)
        data: dict[str, Any] = {}
        shown: list[Any] = []
    else:
        result = import_lora(source, base, name, description=description, progress=not as_json)
        expert, data, shown = result.expert, result.to_dict(), _shares(result)
    if out is None:
        base.registry.register(expert, replace=replace, persist=True)
    else:
        expert.save(out)
    folder = base.registry.source(name) if out is None else str(out)
    data = {"name": name, "model": model, "folder": folder, "modules": len(expert.z), **data}
    return Report(data, Group(*shown, Text(f"Imported {name} for {model}: {folder}")))


def _name_of(source: Path) -> str:
    """The name of a file or folder, with "-" for what cannot be in an expert's name."""
    own = source.absolute()
    plain = own.stem if own.suffix == ".pt" else own.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:NAME_LENGTH]


def _shares(result: LoraImport) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Share of the adapter's change that is kept", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("share", justify="right")
    for each in result.layers:
        note = "" if each.adapted else " (not adapted)"
        table.add_row(Text(each.name), f"{each.share:.2%}{note}")
    table.add_section()
    table.add_row("all", f"{result.share:.2%}")
    shown: list[Any] = [table]
    if result.share < _HALF:
        few = (
            f"Only {result.share:.2%} of what the adapter changes lies along the base model's "
            "singular directions: do not expect the expert to act like the adapter."
        )
        shown.append(Text(few, style="yellow"))
    return shown
