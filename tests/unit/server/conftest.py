"""A server of t2-nano, as a client reaches it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from t2agent import T2Model
from t2agent.bench.serving import running
from t2agent.server.app import ServerOptions
from t2agent.server.served import Served

KEY = "sesame"
ADMIN = "open sesame"


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    served = Served([T2Model.from_pretrained("t2-nano")], rows=4)
    with running(served, ServerOptions(key=KEY, admin_key=ADMIN)) as url:
        yield url
