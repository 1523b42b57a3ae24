"""Messages and tools as people and endpoints write them, brought into the one form of prompts.

Requests, endpoints and training examples are read here alike, so that a model is trained on the
very tokens that it is asked with.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from t2agent.errors import ConfigError, ModalityError
from t2agent.images import is_image_block

Message = dict[str, Any]
"""{"role", "content": list of {"type": "text", "text"} and image parts}, and of an assistant
"tool_calls", of a tool "tool_call_id" and "name": Hugging Face's chat form."""
TakeImage = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Turns a block that holds an image into a part of a message."""

ANY_JSON = "Answer with a JSON object and nothing else."
JSON_BY_SCHEMA = "Answer with JSON of this form, and nothing else:\n"
"""What the system says where a reply must be JSON, before the schema."""

_TEXTS = ("text", "text-plain")
# Of an earlier answer: what the model thought, and calls, which the message holds a second time.
_LEFT_OUT = frozenset(
    {
        "reasoning", "thinking", "tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use",
        "server_tool_call", "server_tool_call_chunk", "server_tool_result",
    }
)  # fmt: skip


def read_message(given: Mapping[str, Any], take: TakeImage) -> Message:
    """A message from its role and what else is known of it.

    given: with a content that is a string, None or a list of blocks and strings; calls of tools
        as of `read_call`; other fields are left out, as are an earlier answer's thoughts.

    Raises ConfigError for a content or a call of another form, ModalityError for a block that is
    neither text nor an image, and what ``take`` raises.
    """
    content = given.get("content")
    blocks = [content or ""] if content is None or isinstance(content, str) else content
    if not isinstance(blocks, list | tuple):
        raise ConfigError(f"the content is {content!r:.80}; needed a string or a list of parts")
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, str):
            parts.append({"type": "text", "text": block})
            continue
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind in _TEXTS:
            parts.append({"type": "text", "text": _text(block)})
        elif kind is not None and is_image_block(block):
            parts.append(take(block))
        elif kind not in _LEFT_OUT:
            raise ModalityError(f"a message holds a block of type {kind!r}: give text or images")
    found: Message = {"role": given["role"], "content": parts}
    if calls := given.get("tool_calls"):
        if not isinstance(calls, list | tuple):
            raise ConfigError(f"tool_calls is {calls!r:.80}; needed a list of calls")
        found["tool_calls"] = list(map(read_call, calls))
    if given["role"] == "tool":
        told = {name: given.get(name) for name in ("tool_call_id", "name")}
        found |= {name: value for name, value in told.items() if value is not None}
    return found


def read_call(given: object) -> dict[str, Any]:
    """A call in OpenAI's form, {"type": "function", "id": ..., "function": {"name": ...,
    "arguments": ...}}, with its arguments as an object.

    given: the same, or {"name": ..., "arguments": ...} alone; arguments an object or its JSON.

    Raises ConfigError for what is no call.
    """
    function = given.get("function", given) if isinstance(given, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(name, str) or not name:
        raise ConfigError(
            f"{given!r:.120} is no call of a tool; needed "
            '{"type": "function", "function": {"name": ..., "arguments": {...}}}'
        )
    assert isinstance(function, Mapping)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"the arguments of the call of {name!r} are no JSON: {error}; they are "
                f"{arguments!r:.120}"
            ) from error
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise ConfigError(
            f"the arguments of the call of {name!r} are {arguments!r:.120}; needed an object, or "
            "its JSON"
        )
    function = {"name": name, "arguments": dict(arguments)}
    return {"type": "function", "id": given.get("id") or "", "function": function}


def function_tool(given: object) -> Mapping[str, Any]:
    """An OpenAI function tool, checked. Raises ConfigError for what is none."""
    function = given.get("function") if isinstance(given, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(name, str) or not name:
        raise ConfigError(
            f'{given!r:.200} is no tool; needed OpenAI\'s function tools, {{"type": "function", '
            '"function": {"name": ..., "parameters": {...}}}; in Python, bind_tools takes '
            "LangChain tools, functions and pydantic classes as well"
        )
    return given


def function_tools(given: Iterable[object]) -> tuple[Mapping[str, Any], ...]:
    """`function_tool` of each. Raises ConfigError, also where two have the same name."""
    tools = tuple(map(function_tool, given))
    names = [tool["function"]["name"] for tool in tools]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"two tools are named {min(twice)!r}; rename one of them")
    return tools


def joined_text(*contents: Any) -> str:
    """The text of some contents, with space where an image, or the end of a content, stood between
    two texts."""
    text, apart = "", False
    for content in contents:
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "text" and part["text"]:
                open_end = apart and text and not text[-1].isspace()
                gap = " " if open_end and not part["text"][0].isspace() else ""
                text, apart = text + gap + part["text"], False
            else:
                apart = apart or part["type"] != "text"
        apart = True
    return text


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, without its images."""
    return joined_text(message["content"])


def asking(messages: Sequence[Mapping[str, Any]]) -> int:
    """The place of the message that asks: the user's last, or, where that holds images alone, the
    one before it that the same turn has. 0 where the user says nothing."""
    asks = 0
    for place in reversed(range(len(messages))):
        if messages[place]["role"] == "user":
            if text_of(messages[place]):
                return place
            asks = asks or place
        elif asks:
            break
    return asks


def said_by_others(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that was said but by the model."""
    return "\n".join(text_of(one) for one in messages if one["role"] != "assistant")


def said_since_result(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that the user has said since a tool's result last came, so that "Yes, for two" is read
    with what it adds to; "" where nothing was said since."""
    results = [place for place, one in enumerate(messages) if one["role"] == "tool"]
    since = messages[results[-1] + 1 :] if results else messages
    return "\n".join(text_of(one) for one in since if one["role"] == "user")


def result_values(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts in the tools' results since the user last asked, where those are JSON."""
    found: dict[str, None] = {}
    for one in messages[asking(messages) :]:
        if one["role"] == "tool":
            with contextlib.suppress(ValueError, RecursionError):
                found |= dict.fromkeys(_texts(json.loads(text_of(one))))
    return list(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def asks_json(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the reply must be JSON, as the system says where a call has a response_format."""
    said = text_of(messages[0]) if messages and messages[0]["role"] == "system" else ""
    return ANY_JSON in said or JSON_BY_SCHEMA in said


def calls_so_far(messages: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The calls since the user asked, {"name", "arguments"}, where a result came last; else ()."""
    if not messages or messages[-1]["role"] != "tool":
        return ()
    since = messages[asking(messages) :]
    return tuple(call["function"] for one in since for call in one.get("tool_calls") or ())


def _text(block: Mapping[str, Any]) -> str:
    text = block.get("text", "")
    if not isinstance(text, str):
        raise ConfigError(f"a text block holds a {type(text).__name__}: give a string in 'text'")
    return text
