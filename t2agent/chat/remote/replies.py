"""Completions of OpenAI's API, whole and in pieces, as LangChain's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import (
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)

from t2agent.chat.remote.endpoint import DONE
from t2agent.errors import EndpointError

_MORE = ("reasoning_content", "reasoning", "refusal")
"""Texts beside the content: what a reasoning model thought (vLLM's two names), and a refusal."""
_TOLD = ("id", "system_fingerprint")

Object = Mapping[str, Any]


def whole(completion: Object) -> AIMessage:
    """The message of a completion; its response_metadata holds what the endpoint told.

    Calls that cannot be read are in ``invalid_tool_calls``. Raises EndpointError where there is no
    message.
    """
    choice = _choice(completion)
    said = choice.get("message")
    if not isinstance(said, Mapping):
        raise EndpointError(
            f"the endpoint sent a completion without a message ({_keys(completion)}): see that "
            "base_url is that of an OpenAI-compatible API"
        )
    calls, invalid = _calls(_objects(said.get("tool_calls")))
    told = _told(completion, choice)
    if "finish_reason" in told:
        told["finish_reason"] = _reason(told["finish_reason"], called=bool(calls))
    return AIMessage(
        content=_text(said.get("content")),
        tool_calls=calls,
        invalid_tool_calls=invalid,
        additional_kwargs=_more(said),
        usage_metadata=usage(completion.get("usage")),
        response_metadata=told,
    )


@dataclass(slots=True)
class StreamReader:
    """Turns the pieces of one streamed completion into chunks of a message."""

    _told: dict[str, Any] = field(init=False, default_factory=dict)
    _usage: UsageMetadata | None = field(init=False, default=None)
    _said: set[tuple[int, str]] = field(init=False, default_factory=set)
    _begun: bool = field(init=False, default=False)
    _done: bool = field(init=False, default=False)

    def chunk(self, piece: Object) -> AIMessageChunk | None:
        """The chunk that a piece makes; None for one that tells nothing to the reader, and for
        `DONE`."""
        self._done = self._done or piece is DONE
        # Cumulative, where more than one piece has it: only the last one counts.
        self._usage = usage(piece.get("usage")) or self._usage
        choices = _objects(piece.get("choices"))
        choice: Object = choices[0] if choices else {}
        self._begun = self._begun or bool(choices)
        told = _told(piece, choice)
        logprobs = told.pop("logprobs", None)
        self._told |= told
        delta = choice.get("delta")
        if not isinstance(delta, Mapping):
            return None
        content, more = _text(delta.get("content")), _more(delta)
        calls = [
            self._call(call, place) for place, call in enumerate(_objects(delta.get("tool_calls")))
        ]
        if not (content or more or calls or logprobs):
            return None
        return AIMessageChunk(
            content=content,
            tool_call_chunks=calls,
            additional_kwargs=more,
            response_metadata={} if logprobs is None else {"logprobs": logprobs},
        )

    def last(self) -> AIMessageChunk:
        """The last chunk, with what the endpoint told and the usage.

        Raises EndpointError where the stream broke off before the answer's end.
        """
        if not self._begun or not (self._done or "finish_reason" in self._told):
            had = "before its end" if self._begun else "without a piece of an answer"
            raise EndpointError(
                f"the endpoint's stream ended {had}: see its log, try again, or call invoke "
                "where it cannot stream"
            )
        reason = self._told.setdefault("finish_reason", "stop")
        self._told["finish_reason"] = _reason(reason, called=bool(self._said))
        return AIMessageChunk(
            content="",
            usage_metadata=self._usage,
            response_metadata=self._told,
            chunk_position="last",
        )

    def _call(self, call: Object, place: int) -> ToolCallChunk:
        function = _function(call)
        arguments, index = function.get("arguments"), call.get("index")
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        index = index if isinstance(index, int) else place
        return tool_call_chunk(
            name=self._once(index, "name", function.get("name")),
            args=_string(arguments),
            id=self._once(index, "id", call.get("id")),
            index=index,
        )

    def _once(self, index: int, what: str, given: object) -> str | None:
        """Chunks are joined, so what some endpoints say in each piece must be said once."""
        if not isinstance(given, str) or not given or (index, what) in self._said:
            return None
        self._said.add((index, what))
        return given


def usage(given: object) -> UsageMetadata | None:
    """The tokens that an answer took; None where the endpoint does not tell."""
    if not isinstance(given, Mapping):
        return None
    read, written = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    if read is None and written is None:
        return None
    total = _count(given, "total_tokens")
    found = UsageMetadata(
        input_tokens=read or 0,
        output_tokens=written or 0,
        total_tokens=(read or 0) + (written or 0) if total is None else total,
    )
    cached = _count(given.get("prompt_tokens_details"), "cached_tokens")
    if cached is not None:
        found["input_token_details"] = InputTokenDetails(cache_read=cached)
    thought = _count(given.get("completion_tokens_details"), "reasoning_tokens")
    if thought is not None:
        found["output_token_details"] = OutputTokenDetails(reasoning=thought)
    return found


def _choice(completion: Object) -> Object:
    choices = _objects(completion.get("choices"))
    if not choices:
        raise EndpointError(
            f"the endpoint sent a completion without choices ({_keys(completion)}): see that "
            "base_url is that of an OpenAI-compatible API"
        )
    return choices[0]


def _told(piece: Object, choice: Object) -> dict[str, Any]:
    """What belongs into response_metadata."""
    told = {name: piece[name] for name in _TOLD if isinstance(piece.get(name), str)}
    if isinstance(piece.get("model"), str):
        told["model_name"] = piece["model"]
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        told["finish_reason"] = reason
    if choice.get("logprobs") is not None:
        told["logprobs"] = choice["logprobs"]
    return told


def _reason(reason: str, *, called: bool) -> str:
    """Some endpoints end a reply that is a call with "stop" where the tool was named."""
    return "tool_calls" if called and reason == "stop" else reason


def _calls(given: Sequence[Object]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    good, bad = [], []
    for call in given:
        function = _function(call)
        name, arguments = _string(function.get("name")), function.get("arguments")
        number = _string(call.get("id"))
        try:
            # An endpoint may leave out the arguments of a tool that has none.
            found = json.loads(arguments or "{}") if not isinstance(arguments, dict) else arguments
        except (TypeError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and name is not None:
            good.append(tool_call(name=name, args=found, id=number))
        else:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            problem = "no JSON object" if name is not None else "the call names no tool"
            bad.append(invalid_tool_call(name=name, args=text, id=number, error=problem))
    return good, bad


def _function(call: Object) -> Object:
    function = call.get("function")
    return function if isinstance(function, Mapping) else {}


def _more(said: Object) -> dict[str, Any]:
    return {name: said[name] for name in _MORE if isinstance(said.get(name), str) and said[name]}


def _text(content: object) -> str:
    if isinstance(content, list):  # of parts, as a few endpoints write it
        return "".join(_text(part.get("text")) for part in _objects(content))
    return content if isinstance(content, str) else ""


def _objects(given: object) -> list[Object]:
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []


def _string(given: object) -> str | None:
    return given if isinstance(given, str) else None


def _count(given: object, name: str) -> int | None:
    value = given.get(name) if isinstance(given, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _keys(found: Object) -> str:
    return f"its keys: {', '.join(map(str, found)) or 'none'}"[:200]
