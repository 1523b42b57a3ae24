"""``t2agent serve``: the OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated

import typer

from t2agent.cli.command import Report
from t2agent.cli.options import Quantized, Strategy
from t2agent.cli.start import starting
from t2agent.errors import ConfigError
from t2agent.models import installed

_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A base model; may be repeated, and the first is the default."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="T2AGENT_API_KEY", help="What requests must bring.", show_envvar=True),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            envvar="T2AGENT_ADMIN_KEY", help="What registering experts needs.", show_envvar=True
        ),
    ] = None,
    dispatch: Strategy = None,
    experts: Annotated[
        list[str] | None,
        typer.Option("--expert", "-e", help="One that dispatch may choose; may be repeated."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Replies that are written at once.")] = 16,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that wait at most.")] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 2048,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds of a request at most.")] = 600.0,
    quantized: Quantized = True,
) -> Report:
    """Serve OpenAI's API with self-adapting models, and a page to try them at /."""
    try:
        import uvicorn

        from t2agent.server.app import ServerOptions, make_app
        from t2agent.server.chat import Limits
        from t2agent.server.served import Served
    except ImportError as error:
        raise ConfigError(
            f"the server needs the package {error.name}: pip install 't2agent[server]'"
        ) from error
    if api_key is None and host not in _LOCAL:
        raise ConfigError(
            f"--host {host} lets others in, and no key is set: give --api-key (or "
            "T2AGENT_API_KEY), or listen at 127.0.0.1"
        )
    names = [installed.named(name) for name in model or [installed.AUTO]]
    with starting(f"Loading {', '.join(names)}", show=True):
        served = Served(
            names,
            dispatch=dispatch or "embedding",
            experts=experts,
            rows=rows,
            waiting=waiting,
            quantized=quantized,
        )
        for base in served.bases.values():
            base.engine.decide([""])  # the first decision loads the encoder and fits
    options = ServerOptions(
        key=api_key, admin_key=admin_key, limits=Limits(tokens=max_tokens, seconds=timeout)
    )
    uvicorn.run(
        make_app(served, options),
        host=host,
        port=port,
        log_level="info",
        timeout_graceful_shutdown=int(options.grace),
    )
    return Report(None)
