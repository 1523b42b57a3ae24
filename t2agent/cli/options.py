"""Options that several commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Base model: t2-nano, a name on the Hub, or a checkpoint's folder."
    ),
]
Targets = Annotated[
    str,
    typer.Option(help="Layers to adapt: all, attention, mlp, all+vision, or a regular expression."),
]
Image = Annotated[
    Path | None, typer.Option("--image", "-i", metavar="FILE", help="An image for the model.")
]
Strategy = Annotated[
    Literal["embedding", "prompt", "classifier", "few-shot", "embedding+few-shot", "off"] | None,
    typer.Option(
        "--dispatch",
        "-d",
        help="How experts are chosen: by likeness to their examples (embedding), by asking the "
        "model (prompt) or its classifier expert (classifier), or as ChatT2.adapt found out from "
        "a few examples (few-shot, embedding+few-shot); off for the base model.",
        show_default="embedding",
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated."),
]


def parsed(settings: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` strings as a dict; a value is read as JSON and is a string where it is none."""
    values: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="--set")
        try:
            values[key.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            values[key.strip().replace("-", "_")] = value
    return values
