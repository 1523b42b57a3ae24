"""The commands, put together. Nothing heavy is imported here, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from t2agent import __version__
from t2agent.cli.agent import agent
from t2agent.cli.bench import bench
from t2agent.cli.chat import chat
from t2agent.cli.command import add_commands
from t2agent.cli.decompose import decompose
from t2agent.cli.dispatch import show
from t2agent.cli.doctor import doctor
from t2agent.cli.experts import experts
from t2agent.cli.models import models
from t2agent.cli.serve import serve
from t2agent.cli.train import train

app = typer.Typer(
    help="Language models that adapt themselves to each request (SVF experts).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"t2agent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    context.obj = debug


add_commands(app, {"chat": chat, "agent": agent, "dispatch": show, "serve": serve})
app.add_typer(experts, name="experts")
app.add_typer(models, name="models")
add_commands(app, {"train": train, "decompose": decompose, "bench": bench, "doctor": doctor})
