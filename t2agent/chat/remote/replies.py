"""Answers in the dialects of OpenAI's API, as langchain-openai reads them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import PrivateAttr, SecretStr

from t2agent.errors import EndpointError

_MORE = ("reasoning_content", "reasoning", "refusal")
"""Texts beside the content: what a reasoning model thought (vLLM's two names), and a refusal."""
_TOLD = ("id", "model_name", "system_fingerprint", "finish_reason")

Object = Mapping[str, Any]


@dataclass(slots=True)
class _Call:
    """A call that has begun: its index, id and name at the endpoint, and its arguments."""

    index: object
    id: str | None
    name: str | None
    arguments: str = ""

    def ends_before(self, number: str | None, name: str | None) -> bool:
        """Whether a piece with its index and this id and name begins another call."""
        if not (name and self.name) or (number and number == self.id):
            return False
        return name != self.name or _json(self.arguments) is not None


class Exchange(BaseChatOpenAI):
    """One request and its answer; messages' response_metadata holds what the endpoint told.

    Mended is what endpoints say otherwise than OpenAI: arguments as objects or not at all, calls
    without an id or an index, names and usage that come with each piece, "stop" after a call.
    Raises ValueError, LookupError, TypeError or AttributeError for what is no answer.

    Args:
        request: the arguments of the library's ``completions.create``.
        completions: the library's, of a client for threads or for an event loop.
        url: the endpoint's address.
    """

    _request: dict[str, Any] = PrivateAttr()
    _calls: list[_Call] = PrivateAttr(default_factory=list)
    _told: dict[str, Any] = PrivateAttr(default_factory=dict)
    _usage: UsageMetadata | None = PrivateAttr(default=None)

    def __init__(self, request: dict[str, Any], completions: object, url: str) -> None:
        # What the library would take from the environment is given, though nobody asks for it.
        super().__init__(
            client=completions,
            async_client=completions,
            base_url=url,
            api_key=SecretStr("none"),
            openai_proxy=None,
            http_socket_options=(),
            stream_chunk_timeout=None,
            output_version="v0",
            use_responses_api=False,
        )
        self._request = request

    def last(self) -> ChatGenerationChunk:
        """The last chunk of a stream, with what the endpoint told and the usage.

        Raises EndpointError where the stream broke off before the answer's end.
        """
        told = {name: self._told[name] for name in _TOLD if self._told.get(name)}
        if "finish_reason" not in told:
            raise EndpointError(
                "the endpoint's stream ended before its end: see its log, try again, or call "
                "invoke where it cannot stream"
            )
        # Some endpoints end a reply that is a call with "stop" where the tool was named.
        if self._calls and told["finish_reason"] == "stop":
            told["finish_reason"] = "tool_calls"
        message = AIMessageChunk(
            content="",
            usage_metadata=self._usage,
            response_metadata=told,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)

    def _get_request_payload(self, input_: Any, *, stop: Any = None, **kwargs: Any) -> Any:  # noqa: ARG002
        return {**self._request, **kwargs}

    def _create_chat_result(self, response: Any, generation_info: Any = None) -> ChatResult:  # noqa: ARG002
        """A whole answer is a stream of one piece, but for calls that are cut short: invalid."""
        if isinstance(response, str):  # by its Content-Type
            response = json.loads(response)
        found = response.model_dump(warnings=False) if hasattr(response, "model_dump") else response
        if not isinstance(found, dict):
            raise TypeError("JSON that is no object")
        self._see_error(found)
        choice = next(iter(objects(found.get("choices"))), {})
        if not isinstance(said := choice.get("message"), Mapping):
            raise LookupError(f"a completion without a message; its keys: {', '.join(found)}")
        given = objects(said.get("tool_calls"))
        said = {**said, "tool_calls": [{**call, "index": at} for at, call in enumerate(given)]}
        reason = choice.get("finish_reason") or "stop"
        piece = {**found, "choices": [{**choice, "delta": said, "finish_reason": reason}]}
        one = self._convert_chunk_to_generation_chunk(piece, AIMessageChunk, None)
        whole = (self.last() if one is None else one + self.last()).message
        assert isinstance(whole, AIMessageChunk)
        message = message_chunk_to_message(whole)
        assert isinstance(message, AIMessage)
        calls = whole.tool_call_chunks
        good = [c["id"] for c in calls if c["name"] and isinstance(_json(c["args"] or "{}"), dict)]
        message.tool_calls = [call for call in message.tool_calls if call["id"] in good]
        message.invalid_tool_calls = [
            invalid_tool_call(name=c["name"], args=c["args"], id=c["id"], error="no JSON object")
            for c in calls
            if c["id"] not in good
        ]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _convert_chunk_to_generation_chunk(
        self,
        chunk: Any,
        default_chunk_class: type,  # noqa: ARG002
        base_generation_info: Any,  # noqa: ARG002
    ) -> ChatGenerationChunk | None:
        self._see_error(chunk)
        choices = objects(chunk.get("choices"))[:1]
        delta = choices[0].get("delta") if choices else None
        said: Object = delta if isinstance(delta, Mapping) else {}
        calls = list(map(self._piece, objects(said.get("tool_calls"))))
        plain = {"role": "assistant", "content": _text(said.get("content")), "tool_calls": calls}
        choices = [{**choice, "delta": plain} for choice in choices]
        found = super()._convert_chunk_to_generation_chunk(
            {**chunk, "choices": choices}, AIMessageChunk, None
        )
        assert found is not None
        message, told = found.message, found.generation_info or {}
        assert isinstance(message, AIMessageChunk)
        self._told |= {"id": chunk.get("id"), **told}
        if message.usage_metadata:  # cumulative, where more than one piece has it
            tidy: Any = {name: one for name, one in message.usage_metadata.items() if one != {}}
            self._usage, message.usage_metadata = tidy, None
        more = {name: said[name] for name in _MORE if _string(said.get(name))}
        message.additional_kwargs = more
        logprobs = {name: told[name] for name in ("logprobs",) if name in told}
        message.response_metadata = logprobs
        wanted = message.content or calls or more or logprobs
        return ChatGenerationChunk(message=message) if wanted else None

    def _see_error(self, found: Object) -> None:
        """Raise what an endpoint says instead of an answer; older vLLMs say it by the object."""
        told = found.get("error") or (found if found.get("object") == "error" else None)
        if told:
            request = httpx2.Request("POST", self.openai_api_base or "")
            raise openai.APIError("no answer", request, body=told)

    def _piece(self, given: Object) -> dict[str, Any]:
        """A piece of a call as OpenAI has it. The index is its call's alone; a name and an id are
        said where it begins, and only there: chunks are joined, and some endpoints say them in
        each piece."""
        function = given.get("function")
        function = function if isinstance(function, Mapping) else {}
        arguments, name = function.get("arguments") or "", _string(function.get("name"))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        index, said, number = given.get("index"), _string(given.get("id")), None
        known = [place for place, one in enumerate(self._calls) if index in (None, one.index)]
        place = known[-1] if known else len(self._calls)
        if not known or self._calls[place].ends_before(said, name):
            place, number = len(self._calls), said or f"call_{uuid.uuid4().hex[:24]}"
            self._calls.append(_Call(index, said, name))
        elif self._calls[place].name is None:
            self._calls[place].name = name
        else:
            name = None
        self._calls[place].arguments += arguments
        return {"index": place, "id": number, "function": {"name": name, "arguments": arguments}}


def _text(content: object) -> str:
    if isinstance(content, list):  # of parts, as a few endpoints write it
        return "".join(_text(part.get("text")) for part in objects(content))
    return _string(content) or ""


def objects(given: object) -> list[Object]:
    """The objects of a list; none where it is no list."""
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []


def _string(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _json(text: str) -> object:
    """What a text is as JSON; None for one that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
