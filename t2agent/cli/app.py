"""The commands, put together. Nothing heavy is imported here, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from t2agent import __version__
from t2agent.cli import agent, bench, chat, decompose, dispatch, doctor, experts, train

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


for _part in (chat, agent, dispatch, experts, train, decompose, bench, doctor):
    _part.add_to(app)
