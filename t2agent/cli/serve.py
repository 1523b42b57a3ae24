"""``t2agent serve``: the OpenAI-compatible server."""

from __future__ import annotations

from contextlib import ExitStack
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
    ray: Annotated[
        bool, typer.Option("--ray", help="Have copies of the models answer, held by Ray Serve.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=1, help="With --ray: copies of the models.")] = 2,
    replica_cpus: Annotated[
        float, typer.Option(min=0.0, help="With --ray: processors reserved for each copy.")
    ] = 1.0,
    replica_gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="With --ray: GPUs of each copy; 1 unless said, where Ray has any."
        ),
    ] = None,
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
    options = ServerOptions(
        key=api_key, admin_key=admin_key, limits=Limits(tokens=max_tokens, seconds=timeout)
    )
    strategy = dispatch or "embedding"
    if ray:
        try:
            from t2agent.server.replicas import serving
        except ImportError as error:
            raise ConfigError(
                f"--ray needs the package {error.name}: pip install 't2agent[server,ray]'"
            ) from error
        if admin_key is not None:
            raise ConfigError(
                "--ray takes no --admin-key: the copies read their experts when they start. Add "
                "experts with t2agent experts, on every machine, and start again"
            )
        copies = serving(
            names,
            dispatch=strategy,
            count=replicas,
            cpus=replica_cpus,
            gpus=replica_gpus,
            waiting=waiting,
            experts=experts,
            rows=rows,
            quantized=quantized,
        )
    with ExitStack() as stack:
        with starting(f"Loading {', '.join(names)}", show=True):
            if ray:
                served = stack.enter_context(copies)
            else:
                served = Served(
                    names,
                    dispatch=strategy,
                    experts=experts,
                    rows=rows,
                    waiting=waiting,
                    quantized=quantized,
                )
            for base in served.bases.values():
                base.engine.decide([""])  # the first decision loads the encoder and fits
        uvicorn.run(
            make_app(served, options),
            host=host,
            port=port,
            log_level="info",
            timeout_graceful_shutdown=int(options.grace),
        )
    return Report(None)
