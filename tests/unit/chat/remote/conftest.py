from __future__ import annotations

from collections.abc import Iterator

import pytest

from t2agent import ChatT2, ChatT2Remote
from tests.openai_server import OpenAIServer, serving
from tests.remote_models import remote


@pytest.fixture(scope="session")
def local() -> ChatT2:
    """What answers at the other end."""
    return ChatT2(max_tokens=64)


@pytest.fixture
def server(local: ChatT2) -> Iterator[OpenAIServer]:
    with serving(local) as found:
        yield found


@pytest.fixture
def chat(server: OpenAIServer) -> ChatT2Remote:
    return remote(server)
