from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from t2agent.errors import ConfigError, ContextLengthError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.registry import Registry
from t2agent.toolbox import load_tools

Text = Callable[..., str]


class Chat:
    """A chat model that says what it was asked, and remembers it."""

    def __init__(self) -> None:
        self.registry = Registry("org/base")
        vectors = {"m": torch.ones(3)}
        self.registry.register(Expert(ExpertCard("sums"), vectors))
        self.registry.register(Expert(ExpertCard("read", modality="image"), vectors))
        self.asked: list[Any] = []

    def invoke(self, messages: list[Any], *, expert: str) -> AIMessage:
        self.asked.append((messages, expert))
        if "long" in str(messages[0].text):
            raise ContextLengthError("the prompt is too long: make it shorter")
        return AIMessage(f"{expert}: {messages[0].text}")

    async def ainvoke(self, messages: list[Any], *, expert: str) -> AIMessage:
        return self.invoke(messages, expert=f"{expert} (async)")


def test_an_answer(ok: Text) -> None:
    told = ok("ask_expert", {"name": " sums ", "request": "3 + 4?"}, chat=Chat())
    assert told == "sums: 3 + 4?"


async def test_asynchronously() -> None:
    (tool,) = load_tools("ask_expert", chat=Chat())
    request = {"name": "sums", "request": "3 + 4?"}
    assert await tool.ainvoke(request) == "sums (async): 3 + 4?"
    assert "Did you mean 'sums'" in await tool.ainvoke({**request, "name": "sum"})


def test_an_expert_for_images_gets_the_last_one(
    ok: Text,
    refused: Text,
    picture: Image.Image,
    with_image: Callable[[Image.Image], HumanMessage],
) -> None:
    chat, arguments = Chat(), {"name": "read", "request": "Which number?"}
    message = with_image(picture)
    assert ok("ask_expert", arguments, chat=chat, messages=[message]) == "read: Which number?"
    ((asked,), expert) = chat.asked[0]
    assert expert == "read"
    assert asked.content == [message.content[1], {"type": "text", "text": "Which number?"}]
    assert "is for images" in refused("ask_expert", arguments, chat=chat)
    ok("ask_expert", {**arguments, "name": "sums"}, chat=chat, messages=[message])
    assert chat.asked[-1][0][0].content == "Which number?"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "sum", "request": "x"}, "Did you mean 'sums'? Registered: read, sums."),
        ({"name": "../sums", "request": "x"}, "Registered: read, sums."),
        ({"name": "sums", "request": " "}, "the request is empty"),
        ({"name": "sums", "request": "long"}, "too long: make it shorter"),
        ({"name": "sums"}, "request is missing"),
        ({"name": None, "request": "x"}, "name must be one of read, sums"),
        ({"name": "sums", "request": "x" * 10**6}, "20,000 are the most"),
    ],
)
def test_errors(refused: Text, arguments: dict[str, Any], told: str) -> None:
    assert told in refused("ask_expert", arguments, chat=Chat())


@pytest.mark.parametrize("chat", [None, Registry("org/base"), SimpleNamespace(registry=1)])
def test_nobody_to_ask(chat: object) -> None:
    with pytest.raises(ConfigError, match="give a ChatT2"):
        load_tools("ask_expert", chat=chat)
