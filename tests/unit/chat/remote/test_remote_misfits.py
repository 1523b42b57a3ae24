"""What an endpoint sends that does not fit what was asked for is told, as ChatT2 tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel, Field

from t2agent import ChatT2Remote
from t2agent.errors import GrammarError
from tests.openai_server import Fault, OpenAIServer, serving
from tests.remote_models import joined, remote

DIGIT = {"type": "integer", "maximum": 9}
SCHEMA = {"title": "R", "type": "object", "properties": {"x": DIGIT}, "required": ["x"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "R", "schema": SCHEMA}}
WAYS = ("invoke", "ainvoke", "stream", "astream")


class Bare:
    registry: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with serving(Bare(), {}) as found:  # type: ignore[arg-type]
        yield found


def sent(server: OpenAIServer, way: str, content: str, reason: str, *calls: tuple[str, str]) -> Any:
    """A chat model off dispatch that is sent this next."""
    given = [
        {"index": at, "id": f"c{at}", "function": {"name": name, "arguments": text}}
        for at, (name, text) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": given}
    top = {"id": "1", "model": "m"}
    if "stream" in way:
        pieces = [{"delta": message}, {"delta": {}, "finish_reason": reason}]
        lines = [json.dumps({**top, "choices": [one]}) for one in pieces]
        raw = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
        server.faults = [Fault(raw=raw)]
    else:
        whole = {**top, "choices": [{"message": message, "finish_reason": reason}]}
        server.faults = [Fault(body=json.dumps(whole).encode())]
    return remote(server, dispatch="off", served={})


async def asked(bound: Any, way: str) -> AIMessage:
    if way == "invoke":
        return bound.invoke("go")
    if way == "ainvoke":
        return await bound.ainvoke("go")
    if way == "stream":
        return joined(list(bound.stream("go")))
    return joined([chunk async for chunk in bound.astream("go")])


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_does_not_fit_is_invalid(server: OpenAIServer, way: str) -> None:
    calls = [("f", '{"x": 4}'), ("f", '{"x": 40}'), ("f", '{"x": 4'), ("other", '{"x": 40}')]
    chat: ChatT2Remote = sent(server, way, "", "tool_calls", *calls)
    reply = await asked(chat.bind_tools([TOOL]), way)
    made = [(call["name"], call["args"]) for call in reply.tool_calls]
    assert made == [("f", {"x": 4}), ("other", {"x": 40})]
    assert [call["id"] for call in reply.invalid_tool_calls] in (["c1", "c2"], ["c2", "c1"])
    [told] = reply.response_metadata["misfits"]
    assert "the arguments do not fit the schema of 'f': ['x']: 40 is greater" in told
    if not isinstance(reply, AIMessageChunk):
        assert told in [call["error"] for call in reply.invalid_tool_calls]


@pytest.mark.parametrize("way", WAYS)
async def test_json_that_does_not_fit_raises(server: OpenAIServer, way: str) -> None:
    for content, reason, match in (
        ('{"x": 40}', "stop", r"\['x'\]: 40 is greater.*on_misfit='keep'"),
        ('{"x": 4', "length", "no JSON.*max_tokens"),
        ("", "stop", "no JSON"),
    ):
        chat = sent(server, way, content, reason)
        with pytest.raises(GrammarError, match=match):
            await asked(chat.bind(response_format=FORMAT), way)
    chat = sent(server, way, '{"x": 40}', "stop")
    kept = await asked(chat.bind(response_format=FORMAT, on_misfit="keep"), way)
    assert kept.content == '{"x": 40}'
    assert "40 is greater" in kept.response_metadata["misfits"][0]
    chat = sent(server, way, '{"x": 4}', "stop")
    fits = await asked(chat.bind(response_format=FORMAT), way)
    assert "misfits" not in fits.response_metadata
    chat = sent(server, way, "", "tool_calls", ("f", '{"x": 4}'))
    called = await asked(chat.bind_tools([TOOL], response_format=FORMAT), way)
    assert called.tool_calls


class Small(BaseModel):
    """R."""

    x: int = Field(le=9)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("schema", [SCHEMA, Small])
async def test_structured_output_that_does_not_fit(
    server: OpenAIServer, method: Any, schema: Any
) -> None:
    name = "R" if schema is SCHEMA else "Small"
    text = '{"x": 40}'
    said = (text, "stop") if method == "json_schema" else ("", "tool_calls", (name, text))

    def made(way: str, **more: Any) -> Any:
        chat: ChatT2Remote = sent(server, way, *said)
        return chat.with_structured_output(schema, method=method, **more)

    for way in WAYS:
        with pytest.raises(OutputParserException, match="does not fit its schema"):
            await asked(made(way), way)
    for way in ("invoke", "ainvoke"):
        found: Any = await asked(made(way, include_raw=True), way)
        assert isinstance(found["parsing_error"], OutputParserException)
        assert found["parsed"] is None
