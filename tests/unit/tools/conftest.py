"""The bundled tools, called as an agent calls them."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from PIL import Image

from t2agent.toolbox import load_tools

Call = Callable[..., ToolMessage]

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def agent_with(name: str, **options: Any) -> Any:
    """LangGraph's tool node and nothing else."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(load_tools([name], **options)))
    graph.set_entry_point("tools")
    return graph.compile()


ready = cache(agent_with)


@pytest.fixture
def call() -> Call:
    """Call a tool through LangGraph's tool node, after some messages; it never takes long."""

    def call(
        name: str,
        arguments: dict[str, Any],
        *,
        messages: list[Any] | None = None,
        **options: Any,
    ) -> ToolMessage:
        agent = agent_with(name, **options) if options else ready(name)
        request = AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "1"}])
        start = time.process_time()
        answer = agent.invoke({"messages": [*(messages or []), request]})["messages"][-1]
        # Hostile arguments, too, are answered at once.
        assert time.process_time() - start < 1
        assert isinstance(answer, ToolMessage)
        assert isinstance(answer.content, list) or answer.content.encode() is not None
        return answer

    return call


@pytest.fixture
def ok(call: Call) -> Callable[..., str]:
    """The content of a call that must succeed."""

    def ok(name: str, arguments: dict[str, Any], **options: Any) -> str:
        answer = call(name, arguments, **options)
        assert answer.status == "success", answer.content
        assert isinstance(answer.content, str)
        return answer.content

    return ok


@pytest.fixture
def refused(call: Call) -> Callable[..., str]:
    """The content of a call that must be answered with an error."""

    def refused(name: str, arguments: dict[str, Any], **options: Any) -> str:
        answer = call(name, arguments, **options)
        assert answer.status == "error", answer.content
        assert isinstance(answer.content, str)
        assert 10 < len(answer.content) < 1200
        return answer.content

    return refused


@pytest.fixture
def now() -> Callable[[], datetime]:
    """A clock that stands at 2026-03-14, 15:09 UTC."""
    return lambda: NOW


@pytest.fixture
def picture() -> Image.Image:
    """8 x 6 pixels, red on the left and blue on the right."""
    image = Image.new("RGB", (8, 6), (205, 35, 35))
    image.paste((35, 70, 205), (4, 0, 8, 6))
    return image


@pytest.fixture
def with_image() -> Callable[[Image.Image], HumanMessage]:
    """A user's message that holds an image."""

    def with_image(image: Image.Image) -> HumanMessage:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        block = {"type": "image", "base64": data, "mime_type": "image/png"}
        return HumanMessage([{"type": "text", "text": "Look."}, block])

    return with_image
