"""What goes wrong in a call of ChatT2Remote."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from t2agent import ChatT2, ChatT2Remote
from t2agent.errors import (
    ConfigError,
    ContextLengthError,
    EndpointError,
    ExpertNotFoundError,
    ImageRefusedError,
    ModalityError,
)
from tests.openai_server import Fault, OpenAIServer
from tests.remote_models import MATH, joined, remote


def test_a_model_that_is_gone_is_replaced(local: ChatT2, server: OpenAIServer) -> None:
    chat = remote(server, experts=["math", "code"])
    assert chat.invoke(MATH).response_metadata["served"]["model"] == "math"
    del server.experts["math"]
    with pytest.warns(UserWarning, match="'math' is not served"):
        reply = chat.invoke(MATH)
    assert reply.response_metadata["served"]["model"] in ("t2-nano", "code")
    assert [one["model"] for one in server.requests][:2] == ["math", "math"]
    server.experts["math"] = "math"
    chat.refresh()
    assert joined(list(chat.stream(MATH))).response_metadata["served"]["model"] == "math"
    del server.experts["math"]
    assert joined(list(chat.stream(MATH))).response_metadata["served"]["model"] != "math"
    with pytest.raises(ExpertNotFoundError, match="'math' is not served"):
        chat.invoke(MATH, expert="math")


async def test_and_asynchronously_as_well(server: OpenAIServer) -> None:
    chat = remote(server, experts=["math"])
    await chat.ainvoke(MATH)
    del server.experts["math"]
    with pytest.warns(UserWarning, match="'math' is not served"):
        reply = await chat.ainvoke(MATH)
    assert reply.response_metadata["served"]["model"] == "t2-nano"
    server.experts["math"] = "math"
    chat.refresh()
    assert chat.route(MATH).model == "math"
    del server.experts["math"]
    whole = joined([chunk async for chunk in chat.astream(MATH)])
    assert whole.response_metadata["served"]["model"] == "t2-nano"


def test_errors_of_the_endpoint(chat: ChatT2Remote, server: OpenAIServer) -> None:
    server.faults = [Fault(500)] * 3
    with pytest.raises(EndpointError, match="500 Internal Server Error: a fault"):
        chat.invoke(MATH)
    with pytest.raises(ContextLengthError):
        chat.invoke("word " * 5000)
    with pytest.raises(ContextLengthError):
        list(chat.stream("word " * 5000))
    server.faults = [Fault(raw=b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')]
    with pytest.raises(EndpointError, match="before its end"):
        list(chat.stream(MATH))


def test_messages_that_are_refused_here(chat: ChatT2Remote, server: OpenAIServer) -> None:
    for place in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png"):
        with pytest.raises(ImageRefusedError):
            chat.invoke([HumanMessage([{"type": "image", "url": place}])])
    with pytest.raises(ModalityError):
        chat.invoke([HumanMessage([{"type": "audio", "base64": "AAAA"}])])
    with pytest.raises(ConfigError, match="no message"):
        chat.invoke([])
    with pytest.raises(ConfigError, match="not Unicode"):
        chat.invoke([HumanMessage("\ud800")])
    assert not server.requests


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"nonsense": 1}, "unknown option.*extra_body"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"extra_body": {"model": "x"}}, "extra_body"),
        ({"extra_body": [1]}, "extra_body"),
        ({"model": 3}, "model"),
        ({"dispatch": "prompt"}, "embedding, off"),
        ({"mixture": {"math": 0.5}}, "export the mixture"),
    ],
)
def test_options_that_are_refused(chat: ChatT2Remote, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        chat.invoke(MATH, **options)
