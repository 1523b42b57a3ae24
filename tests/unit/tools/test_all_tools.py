"""Whatever a model writes into a call, every tool answers with content."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from PIL import Image

from t2agent.experts.registry import Registry
from t2agent.toolbox import load_tools, tool_names

CHAT = SimpleNamespace(
    registry=Registry("org/base"), invoke=lambda asked, expert: AIMessage("an answer")
)
TOOLS = {tool.name: tool for tool in load_tools(folder=Path(__file__).parent, chat=CHAT)}

_BUFFER = io.BytesIO()
Image.new("RGB", (1, 1)).save(_BUFFER, "PNG")
PIXEL = base64.b64encode(_BUFFER.getvalue()).decode()
MESSAGES = [HumanMessage([{"type": "image", "base64": PIXEL, "mime_type": "image/png"}])]

ODD = [
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "NaN",
    "today",
    "9999-12-31",
    "m",
    "C",
    "sort",
    "upper",
    "\ud800",
]
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.sampled_from(ODD)
)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def answer(tool: BaseTool, arguments: dict[str, Any]) -> ToolMessage:
    if "messages" in tool.get_input_schema().model_fields:
        arguments = {**arguments, "messages": MESSAGES}
    call = {"type": "tool_call", "name": tool.name, "args": arguments, "id": "1"}
    message = tool.invoke(call)
    assert isinstance(message, ToolMessage)
    return message


def test_these_are_all() -> None:
    assert set(TOOLS) == set(tool_names())


@pytest.mark.parametrize("name", TOOLS)
@given(data=st.data())
def test_any_values_are_answered(name: str, data: st.DataObject) -> None:
    tool = TOOLS[name]
    arguments = {key: data.draw(JSON, label=key) for key in tool.args}
    message = answer(tool, arguments)
    if isinstance(message.content, str):
        message.content.encode()


@pytest.mark.parametrize("name", TOOLS)
@given(data=st.data())
def test_values_of_the_right_types_are_answered(name: str, data: st.DataObject) -> None:
    tool = TOOLS[name]
    numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 0]))
    texts = st.one_of(st.text(max_size=50), st.sampled_from(ODD))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "string": texts,
        "integer": st.one_of(st.integers(-3, 3), st.integers(), st.just(10**400)),
        "number": numbers,
        "array": st.lists(st.one_of(numbers, texts), max_size=5),
    }
    arguments = {
        key: data.draw(
            st.sampled_from(schema["enum"]) if "enum" in schema else kinds[schema["type"]]
        )
        for key, schema in tool.args.items()
    }
    message = answer(tool, arguments)
    if isinstance(message.content, str):
        message.content.encode()


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("arguments", [{}, {"": ""}, {"x" * 10**5: 1}, {"expression": "1", "y": 2}])
def test_other_arguments_are_answered(name: str, arguments: dict[str, Any]) -> None:
    if name in ("list_experts", "current_time") and not arguments:
        assert answer(TOOLS[name], arguments).status == "success"
    elif name != "list_experts":
        message = answer(TOOLS[name], arguments)
        assert message.status == "error"
        assert len(message.content) < 1000
