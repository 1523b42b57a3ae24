"""Tool calls of a model with random weights: whatever the template, what is forced parses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError
from tests.unit.replies.families import FAMILIES, all_templates, model_with
from tests.unit.replies.schemas import fits


def tool(name: str, properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "required": list(required)}
    function = {"name": name, "description": "Does it.", "parameters": schema}
    return {"type": "function", "function": function}


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
BOOK = tool(
    "book",
    {
        "who": PERSON,
        "seats": {"type": "array", "items": {"type": "integer"}},
        "kind": {"type": "string", "enum": ["window", "aisle"]},
        "note": {"type": "string"},
        "price": {"type": "number"},
        "vip": {"type": "boolean"},
        "row": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    ["who", "seats", "kind", "price", "vip"],
)
NOW = tool("now", {}, [])
SIZE = tool("größe_日本", {"länge": {"type": "number"}, "名": {"type": "string"}}, ["länge", "名"])
TOOLS = [BOOK, NOW, SIZE]
SCHEMAS = {one["function"]["name"]: one["function"]["parameters"] for one in TOOLS}
ENOUGH = 220  # tokens, with the real tokenizer, for the longest of these calls in any family


def chat_with(template: str, *, real: bool = True, **options: Any) -> ChatT2:
    model = model_with(template, real=real)
    return ChatT2(model, dispatch="off", temperature=1.0, seed=3, **options)


def streamed(model: Any, request: str, **options: Any) -> AIMessage:
    whole: AIMessageChunk | None = None
    for chunk in model.stream(request, **options):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


def check(message: AIMessage, names: Sequence[str]) -> None:
    assert not message.invalid_tool_calls, message
    assert message.tool_calls, message
    for call in message.tool_calls:
        assert call["name"] in names
        assert call["id"]
        assert fits(call["args"], SCHEMAS[call["name"]]), call
    assert message.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("name", all_templates())
def test_a_forced_call_parses(name: str) -> None:
    chat = chat_with(all_templates()[name], max_tokens=ENOUGH)
    one = chat.bind_tools(TOOLS, tool_choice="book", parallel_tool_calls=False)
    message = streamed(one, "Book it.")
    check(message, ["book"])
    assert len(message.tool_calls) == 1
    now = chat.bind_tools(TOOLS, tool_choice="now", parallel_tool_calls=False)
    check(now.invoke("Time?"), ["now"])
    named = {"type": "function", "function": {"name": "größe_日本"}}
    size = chat.bind_tools(TOOLS, tool_choice=named).bind(max_tokens=ENOUGH // 2)
    message, again = size.invoke("Size?"), streamed(size, "Size?")
    assert [c["args"] for c in again.tool_calls] == [c["args"] for c in message.tool_calls]
    check(message, ["größe_日本"])
    check(again, ["größe_日本"])


@pytest.mark.parametrize("name", all_templates())
def test_any_call_parses(name: str) -> None:
    chat = chat_with(all_templates()[name], max_tokens=ENOUGH).bind_tools(TOOLS, tool_choice="any")
    check(streamed(chat, "Do something."), list(SCHEMAS))


@pytest.mark.parametrize("name", all_templates())
def test_free_replies_are_text_or_calls(name: str) -> None:
    chat = chat_with(all_templates()[name], real=False, max_tokens=40)
    message = chat.bind_tools(TOOLS).invoke("Hello")
    assert not message.invalid_tool_calls
    none = chat.bind_tools(TOOLS, tool_choice="none").invoke("Hello")
    assert not none.tool_calls
    assert none.content == chat.invoke("Hello").content


@pytest.mark.parametrize("limit", [40, 44, 50, 60, 75, 90])
@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_that_runs_out_closes_the_call(limit: int, stream: bool) -> None:
    chat = chat_with(FAMILIES["apertus"])
    bound = chat.bind_tools([SIZE], tool_choice="any")
    for seed in range(3):
        options: dict[str, Any] = {"max_tokens": limit, "seed": seed}
        message = (
            streamed(bound, "Size?", **options) if stream else bound.invoke("Size?", **options)
        )
        check(message, ["größe_日本"])
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] <= limit


def test_a_call_that_cannot_be_closed_is_invalid_and_not_an_error() -> None:
    chat = chat_with(FAMILIES["phi-4-mini"], max_tokens=18).bind_tools([BOOK], tool_choice="any")
    message = chat.invoke("Book it.")
    assert not message.tool_calls
    assert message.invalid_tool_calls[0]["name"] == "book"
    assert message.response_metadata["finish_reason"] == "length"
    again = streamed(chat, "Book it.")
    assert not again.tool_calls
    assert again.invalid_tool_calls[0]["name"] == "book"


def test_several_calls_and_one_at_most() -> None:
    chat = chat_with(FAMILIES["apertus"], max_tokens=200)
    tools = [NOW, tool("later", {}, [])]
    counts = set()
    for seed in range(6):
        several = chat.bind_tools(tools, tool_choice="any").invoke("Now", seed=seed)
        assert not several.invalid_tool_calls
        assert len({call["id"] for call in several.tool_calls}) == len(several.tool_calls)
        counts.add(len(several.tool_calls))
        one = chat.bind_tools(tools, tool_choice="any", parallel_tool_calls=False)
        assert len(one.invoke("Now", seed=seed).tool_calls) == 1
        anthropic = {"type": "any", "disable_parallel_tool_use": True}
        assert len(one.bind(tool_choice=anthropic).invoke("Now", seed=seed).tool_calls) == 1
    assert max(counts) > 1


def test_a_call_streams_as_chunks() -> None:
    chat = chat_with(FAMILIES["phi-4-mini"], max_tokens=120)
    chunks = list(chat.bind_tools([SIZE], tool_choice="any").stream("Size?"))
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert pieces[0]["name"] == "größe_日本"
    assert pieces[0]["id"]
    assert len(pieces) > 3
    assert all(p["name"] is None and p["id"] is None for p in pieces[1:] if p["index"] == 0)
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1
    assert chunks[-1].chunk_position == "last"


@pytest.mark.parametrize("choice", ["nothing", {"type": "function"}, 3])
def test_a_choice_of_no_tool(choice: Any) -> None:
    chat = chat_with(FAMILIES["phi-4-mini"])
    with pytest.raises(ConfigError, match="tool_choice"):
        chat.bind_tools(TOOLS, tool_choice=choice)


def test_a_batch_has_a_constraint_for_each_row() -> None:
    chat = chat_with(FAMILIES["phi-4-mini"], max_tokens=120).bind_tools([SIZE], tool_choice="any")
    for message in chat.batch(["one", "another request", "a third"]):
        check(message, ["größe_日本"])
