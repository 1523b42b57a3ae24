"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Base model: t2-nano, a name on the Hub, or a checkpoint's folder."
    ),
]
Targets = Annotated[
    str,
    typer.Option(
        help="Layers to adapt: all, attention, mlp, all+vision, or a regular expression."
    ),
]
Image = Annotated[
    Path | None, typer.Option("--image", "-i", metavar="FILE", help="An image for the model.")
]
Strategy = Annotated[
    str,
    typer.Option("--dispatch", "-d", help="How experts are chosen: embedding, or off."),
]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
