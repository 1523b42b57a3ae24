"""What all commands share: how errors end them, and how results and replies are shown."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.errors import T2Error

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_PIPE_WIDTH = 120  # columns where there is no terminal to ask


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a command.

    ``data`` is printed with ``--json``, ``text`` without (None prints nothing). A report that is
    not ``ok`` ends the command with exit code 1.
    """

    data: object
    text: RenderableType | None = None
    ok: bool = True


def add_commands(app: typer.Typer, commands: Mapping[str, Callable[..., Report]]) -> None:
    """Register functions as commands, with ``--json``, ``--debug`` and errors in one line.

    A function may take ``as_json`` to know that nothing but JSON is wanted.
    """
    for name, function in commands.items():
        app.command(name)(_guarded(function))


def console(*, stderr: bool = False) -> Console:
    """A console on the streams as they are now."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def _guarded(function: Callable[..., Report]) -> Callable[..., None]:
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def run(context: typer.Context, debug: bool, as_json: bool, **arguments: Any) -> None:
        if "as_json" in signature.parameters:
            arguments["as_json"] = as_json
        try:
            # What a library prints must not get between the JSON.
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                report = function(**arguments)
            _print(report, as_json)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except Exception as error:  # whatever it is, the user gets one line and exit code 1
            if debug or context.obj:
                raise
            typer.echo(f"error: {one_line(error)}", err=True)
            raise typer.Exit(1) from error
        if not report.ok:
            raise typer.Exit(1)

    own = {"context": typer.Context, "as_json": _Json, "debug": _Debug}
    parameters = [
        *(p for name, p in signature.parameters.items() if name not in own),
        *(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=inspect.Parameter.empty if kind is typer.Context else False,
            )
            for name, kind in own.items()
        ),
    ]
    # Typer reads both to find out what a command takes.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.data, indent=2))
    elif report.text is not None:
        console().print(report.text)


def one_line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, T2Error):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"{type(error).__name__}: {error} (unexpected; --debug shows where)"
    return " ".join(text.split())


def printable(text: str) -> str:
    """Without control characters: a model's text must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def answered_by(weights: Mapping[str, float], *, in_scope: bool) -> str:
    """The experts with their weights, or the base model."""
    experts = ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items() if weight)
    if experts:
        return experts
    return "base model" if in_scope else "base model (no expert's task)"
