from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from t2agent.chat.remote.endpoint import DONE
from t2agent.chat.remote.replies import StreamReader, usage, whole
from t2agent.errors import EndpointError


def completion(message: dict[str, Any], reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"message": message, "finish_reason": reason}],
            **more}  # fmt: skip


def piece(delta: dict[str, Any] | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"delta": delta, "finish_reason": reason}],
            **more}  # fmt: skip


def joined(*pieces: Any) -> AIMessageChunk:
    reader = StreamReader()
    chunks = [chunk for one in pieces if (chunk := reader.chunk(one)) is not None]
    return reduce(add, [*chunks, reader.last()])


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
        ("as_object", {"b": 2}, None),
    ]
    assert [(c["name"], c["args"]) for c in reply.invalid_tool_calls] == [
        ("cut", '{"a": '),
        ("list", "[1]"),
        (None, "{}"),
    ]
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
    assert reply.response_metadata["logprobs"] == {"content": tokens}


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(EndpointError, match="before its end"):
        joined(piece({"content": "Hel"}))
    with pytest.raises(EndpointError, match="without a piece"):
        joined()
    with pytest.raises(EndpointError, match="without a piece"):
        joined(DONE)
    # The one sign of the end, or the other.
    assert joined(piece({"content": "a"}), DONE).response_metadata["finish_reason"] == "stop"
    assert joined(piece({"content": "a"}, "length")).response_metadata["finish_reason"] == "length"


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


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model", "id"]), ANY))
def test_nonsense_is_read_or_refused(found: dict[str, Any]) -> None:
    for read in (lambda: whole(found), lambda: joined(found, DONE), lambda: usage(found)):
        try:
            read()
        except EndpointError:
            continue


@given(ANY, ANY)
def test_nonsense_in_messages_and_deltas(message: Any, calls: Any) -> None:
    if not isinstance(message, dict):
        message = {"content": message}
    message = {**message, "tool_calls": calls if isinstance(calls, list) else [calls]}
    whole(completion(message))
    joined(piece(message), piece({}, "stop"))
