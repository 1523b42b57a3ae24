"""A server of t2-nano, as a client reaches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from t2agent import T2Model
from t2agent.server.app import ServerOptions, make_app
from t2agent.server.served import Served

KEY = "sesame"
ADMIN = "open sesame"


@contextmanager
def running(served: Served, options: ServerOptions) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    config = uvicorn.Config(make_app(served, options), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    served = Served([T2Model.from_pretrained("t2-nano")], rows=4)
    with running(served, ServerOptions(key=KEY, admin_key=ADMIN)) as url:
        yield url
