from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk

from t2agent.chat.remote.endpoint import Endpoint
from t2agent.errors import EndpointError
from tests import remote_models
from tests.openai_server import Fault, OpenAIServer, serving

BODY = {"model": "m", "messages": []}
ASKED: list[tuple[OpenAIServer, Endpoint]] = []
# The library reads what it did not expect, but pydantic says so.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


class Bare:
    registry: tuple[str, ...] = ()


@pytest.fixture(autouse=True, scope="module")
def _server() -> Iterator[None]:
    with serving(Bare(), {}) as found:
        ASKED.append((found, Endpoint(url=found.url)))
        yield
        ASKED.clear()


def completion(message: dict[str, Any], reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"message": message, "finish_reason": reason}],
            **more}  # fmt: skip


def piece(delta: dict[str, Any] | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"delta": delta, "finish_reason": reason}],
            **more}  # fmt: skip


def asked(fault: Fault) -> Endpoint:
    [(server, there)] = ASKED
    server.faults = [fault]
    return there


def whole(found: Any) -> AIMessage:
    """The message of a completion that an endpoint sends."""
    answer = asked(Fault(body=json.dumps(found).encode())).complete(BODY)
    message = answer.generations[0].message
    assert isinstance(message, AIMessage)
    return message


def joined(*pieces: Any) -> AIMessageChunk:
    """The message of a stream of these pieces."""
    raw = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in pieces)
    there = asked(Fault(raw=raw + b"data: [DONE]\n\n"))
    return remote_models.joined([one.message for one in there.stream(BODY, usage=True)])


def call(name: Any, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def test_a_whole_reply() -> None:
    used = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 4}}  # fmt: skip
    reply = whole(
        completion({"role": "assistant", "content": "Hi", "tool_calls": None}, usage=used)
    )
    assert reply.content == "Hi"
    assert reply.response_metadata == {"id": "c1", "model_name": "m", "finish_reason": "stop"}
    assert reply.usage_metadata == {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 4},
    }


def test_calls_and_those_that_cannot_be_read() -> None:
    calls = [
        call("add", '{"a": 1}', id="x"),
        call("now", "", id="y"),
        call("as_object", {"b": 2}),
        call("cut", '{"a": ', id="z"),
        call("list", "[1]"),
        call(None, "{}"),
        "nonsense",
    ]
    reply = whole(completion({"content": None, "tool_calls": calls}))
    assert [(c["name"], c["args"], c["id"]) for c in reply.tool_calls] == [
        ("add", {"a": 1}, "x"),
        ("now", {}, "y"),
        ("as_object", {"b": 2}, reply.tool_calls[2]["id"]),
    ]
    assert [(c["name"], c["args"]) for c in reply.invalid_tool_calls] == [
        ("cut", '{"a": '),
        ("list", "[1]"),
        (None, "{}"),
    ]
    numbers = [call["id"] for call in (*reply.tool_calls, *reply.invalid_tool_calls)]
    assert all(numbers)
    assert len(set(numbers)) == 6
    assert reply.content == ""
    assert reply.response_metadata["finish_reason"] == "tool_calls"


def test_thoughts_refusals_and_parts() -> None:
    said = {"content": [{"type": "text", "text": "a"}, {"text": "b"}], "reasoning_content": "hm"}
    reply = whole(completion({**said, "refusal": None}))
    assert (reply.content, reply.additional_kwargs) == ("ab", {"reasoning_content": "hm"})


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"choices": []}, {"choices": None}, {"choices": ["x"]}, {"choices": [{}]},
     {"choices": [{"message": "x"}]}],
)  # fmt: skip
def test_a_completion_that_is_none(nonsense: dict[str, Any]) -> None:
    with pytest.raises(EndpointError, match="without"):
        whole(nonsense)


def test_a_streamed_reply() -> None:
    reply = joined(
        piece({"role": "assistant", "content": ""}),
        piece({"content": "Hel"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
        piece({"content": "lo"}, usage=None),
        piece({}, "length"),
        {"id": "c1", "model": "m", "choices": [], "usage": {"prompt_tokens": 3,
                                                            "completion_tokens": 2}},
    )  # fmt: skip
    assert reply.content == "Hello"
    assert reply.response_metadata == {"id": "c1", "model_name": "m", "finish_reason": "length"}
    assert reply.usage_metadata == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def test_streamed_calls() -> None:
    first = {"index": 0, "id": "x", "type": "function"}
    reply = joined(
        piece({"tool_calls": [{**first, "function": {"name": "add", "arguments": ""}}]}),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]}),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        piece({"tool_calls": [{**first, "index": 1, "id": "y", "function": {"name": "now"}}]}),
        piece({}, "stop"),
    )
    assert [(c["name"], c["args"], c["id"]) for c in reply.tool_calls] == [
        ("add", {"a": 1}, "x"),
        ("now", {}, "y"),
    ]
    assert reply.response_metadata["finish_reason"] == "tool_calls"


def test_a_name_that_is_said_in_each_piece_is_one_name() -> None:
    deltas = [
        {"tool_calls": [{"index": 0, "id": number, "function": {"name": "f", "arguments": text}}]}
        for number, text in (("x", '{"a"'), ("y", ": 1}"))
    ]
    reply = joined(*map(piece, deltas), piece({}, "stop"))
    assert [(c["name"], c["args"], c["id"]) for c in reply.tool_calls] == [("f", {"a": 1}, "x")]


def test_streamed_logprobs_are_joined() -> None:
    tokens = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.2}]
    pieces = [
        {"choices": [{"delta": {"content": t["token"]}, "logprobs": {"content": [t]}}]}
        for t in tokens
    ]
    reply = joined(*pieces, piece({}, "stop"))
    found = reply.response_metadata["logprobs"]["content"]
    assert [{name: one[name] for name in ("token", "logprob")} for one in found] == tokens


def streamed(*calls: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The calls that pieces with one each make; ids that the endpoint did not give are None."""
    reply = joined(*(piece({"tool_calls": [one]}) for one in calls), piece({}, "stop"))
    assert not reply.invalid_tool_calls
    assert all(one["id"] for one in reply.tool_calls)
    given = [one.get("id") for one in calls]
    return [
        (one["name"], one["args"], one["id"] if one["id"] in given else None)
        for one in reply.tool_calls
    ]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": 0}])
def test_two_calls_with_one_index_or_none(index: dict[str, Any]) -> None:
    two = [("f", {"x": 1}, "a"), ("g", {"y": 2}, "b")]
    first, second = call("f", '{"x": 1}', id="a", **index), call("g", '{"y": 2}', id="b", **index)
    assert streamed(first, second) == two
    assert streamed(call("f", '{"x"', id="a", **index), call(None, ": 1}", **index), second) == two
    assert streamed(first, call("f", "", id="b", **index), call(None, '{"x": 2}', **index)) == [
        ("f", {"x": 1}, "a"),
        ("f", {"x": 2}, "b"),
    ]
    # Neither an id: the arguments that are whole tell.
    assert streamed(call("f", '{"x": 1}', **index), call("f", {"x": 2}, **index)) == [
        ("f", {"x": 1}, None),
        ("f", {"x": 2}, None),
    ]


def test_two_calls_in_one_piece_without_an_index() -> None:
    both = [call("f", '{"x": 1}', id="a"), call("f", "{}", id="b")]
    reply = joined(piece({"tool_calls": both}, "tool_calls"))
    assert [(one["args"], one["id"]) for one in reply.tool_calls] == [({"x": 1}, "a"), ({}, "b")]


def test_calls_in_turns() -> None:
    a, b = {"index": 0}, {"index": 4}
    found = streamed(
        call("f", '{"x": ', id="a", **a),
        call("g", '{"y": ', id="b", **b),
        call(None, "1}", **a),
        call(None, "2}", id="new", **b),
    )
    assert found == [("f", {"x": 1}, "a"), ("g", {"y": 2}, "b")]


def test_a_name_that_comes_after_the_id() -> None:
    found = streamed(call(None, None, id="a", index=0), call("f", "{}", id="a", index=0))
    assert found == [("f", {}, "a")]


def test_nonsense_pieces_are_left_out() -> None:
    strange: list[Any] = [{}, {"choices": None}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}]
    reply = joined(*strange, piece({"content": "a"}), piece(None), piece({}, "stop"))
    assert reply.content == "a"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "delta", "content", "tool_calls", "function", "name",
             "arguments", "index", "id", "usage", "prompt_tokens", "logprobs", "finish_reason"]
        ), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


FEW = settings(max_examples=60, deadline=None)


@FEW
@given(st.dictionaries(st.sampled_from(["choices", "usage", "model", "id"]), ANY))
def test_nonsense_is_read_or_refused(found: dict[str, Any]) -> None:
    for read in (whole, joined):
        with suppress(EndpointError):
            read(found)


@FEW
@given(ANY, ANY)
def test_nonsense_in_messages_and_deltas(message: Any, calls: Any) -> None:
    if not isinstance(message, dict):
        message = {"content": message}
    message = {**message, "tool_calls": calls if isinstance(calls, list) else [calls]}
    whole(completion(message))
    joined(piece(message), piece({}, "stop"))
