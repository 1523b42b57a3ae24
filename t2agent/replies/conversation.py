"""Conversations with tools, for chat templates that show only part of them, or nothing.

What a template does not write is written for it: the tools into the system message, earlier calls
into the assistant's text, results into a user's message. Ids of calls become such as it takes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from t2agent.replies.format import ToolFormat, as_text
from t2agent.replies.messages import Message, joined_text
from t2agent.replies.schemas import parameters, properties
from t2agent.replies.signatures import signature

Way = tuple[list[Message], dict[str, Any]]
"""A conversation, and the tools under the template's name for them."""

MARKS = ("<tools>", "</tools>", "<tool_response>", "</tool_response>")
"""The marks that are written here."""

_INTRODUCTION = """\
# Tools

You may call these functions to answer the request:
<tools>
{tools}
</tools>

To call one, write this, with its name and its arguments:
{example}"""
_TEXT = {"role", "content"}
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


def ways(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], form: ToolFormat
) -> list[Way]:
    """Forms of a conversation with tools that a template may take, where it refuses those before.

    The first is the one that its format asks for; the others leave less and less to it. Arguments
    as of `with_tools`.
    """
    found: list[Way] = []
    if tools and form.shows_tools:
        shown = with_tools(messages, tools, form)
        for given in (list(tools), [_complete(tool) for tool in tools]):
            text = json.dumps(given, ensure_ascii=False)
            found.append((shown, {form.tools_name: text if form.tools_text else given}))
    told = replace(form, shows_tools=False)
    told_all = replace(told, shows_calls=False, shows_results=False)
    return [*found, *((with_tools(messages, tools, one), {}) for one in (told, told_all))]


def with_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], form: ToolFormat
) -> list[Message]:
    """The conversation as the template of the format can show it.

    messages: in Hugging Face's chat form, contents as strings or lists of parts; calls with
    arguments as objects. tools: OpenAI's function tools.
    """
    written = [one for message in _identified(messages, form) for one in _calls(message, form)]
    if not form.parallel:
        written = list(_one_by_one(written))
    written = list(_results(written, form))
    if tools and not form.shows_tools:
        written = _introduced(written, tools, form)
    return written


def _identified(messages: Sequence[Message], form: ToolFormat) -> Iterator[Message]:
    """Messages with ids that the template takes, the same for a call and its result; results have
    the name of the tool."""
    known: dict[str, tuple[str, str]] = {}  # id -> new id, name
    count = 0
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                old, name = call.get("id") or "", call["function"]["name"]
                new = _id(old, name, count, form)
                known[old] = (new, name)
                calls.append({**call, "id": new})
                count += 1
            yield {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            old = message.get("tool_call_id") or ""
            name = message.get("name") or known.get(old, ("", ""))[1] or "tool"
            new = known[old][0] if old in known else _id(old, name, count, form)
            yield {**message, "tool_call_id": new, "name": name}
        else:
            yield message


def _id(given: str, name: str, count: int, form: ToolFormat) -> str:
    if form.ids == "named":
        return f"functions.{name}:{count}"
    if form.ids == "nine" and not _NINE.fullmatch(given):
        return hashlib.blake2b((given or f"{count}").encode(), digest_size=5).hexdigest()[:9]
    return given


def _calls(message: Message, form: ToolFormat) -> Iterator[Message]:
    """The message with its calls as the template takes them."""
    calls = message.get("tool_calls")
    if not calls:
        yield message
    elif form.shows_calls:
        yield {**message, "tool_calls": [_call(call, form) for call in calls]}
    else:
        text = form.write([(c["function"]["name"], c["function"]["arguments"]) for c in calls])
        rest = {key: value for key, value in message.items() if key != "tool_calls"}
        yield {**rest, "content": _joined(message["content"], "\n", text)}


def _call(call: Mapping[str, Any], form: ToolFormat) -> Mapping[str, Any]:
    """The call with its arguments as the template takes them."""
    function = call["function"]
    arguments: Any = function["arguments"]
    if form.parameters is not None:  # some templates write what is no string as Python
        arguments = {key: as_text(value) for key, value in arguments.items()}
    if form.as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Several calls of one message as so many messages, each followed by its result. Results keep
    their order, in which their images are."""
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        calls = list(message.get("tool_calls") or ())
        if len(calls) < 2:
            yield message
            continue
        results: list[Message] = []
        while rest and rest[0]["role"] == "tool":
            results.append(rest.pop(0))
        answered = {result["tool_call_id"] for result in results}
        pairs: list[tuple[Message | None, Message | None]] = [
            (call, None) for call in calls if call["id"] not in answered
        ]
        open_ones = [call for call in calls if call["id"] in answered]
        for result in results:
            own = next((c for c in open_ones if c["id"] == result["tool_call_id"]), None)
            if own is not None:
                open_ones.remove(own)
            pairs.append((own, result))
        pairs += [(call, None) for call in open_ones]
        content = message["content"]
        for call, one in pairs:
            if call is not None:
                yield {**message, "content": content, "tool_calls": [call]}
                content = type(content)()
            if one is not None:
                yield one


def _results(messages: Sequence[Message], form: ToolFormat) -> Iterator[Message]:
    """Results as the template takes them. Those that it does not show are a user's message; those
    side by side one, and with what the user says next, since roles may have to alternate."""
    pending: Message | None = None
    for message in messages:
        if message["role"] == "tool" and not _shown(message, form):
            content = type(message["content"])()
            for more in ("<tool_response>\n", message["content"], "\n</tool_response>"):
                content = _joined(content, "", more)
            before = type(content)() if pending is None else pending["content"]
            pending = {"role": "user", "content": _joined(before, "\n", content)}
        elif pending is not None and message["role"] == "user":
            yield {**message, "content": _joined(pending["content"], "\n", message["content"])}
            pending = None
        else:
            if pending is not None:
                yield pending
            pending = None
            yield _plain(message) if form.text_results and message["role"] == "tool" else message
    if pending is not None:
        yield pending


def _shown(message: Message, form: ToolFormat) -> bool:
    """Whether the template shows a result."""
    content = message["content"]
    images = not isinstance(content, str) and any(part["type"] == "image" for part in content)
    return form.shows_results and (form.image_results or not images)


def _plain(message: Message) -> Message:
    """A result without images with its content as a string."""
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": "".join(part["text"] for part in content)}


def _introduced(
    messages: list[Message], tools: Sequence[Mapping[str, Any]], form: ToolFormat
) -> list[Message]:
    text = _INTRODUCTION.format(
        tools="\n".join(signature(tool["function"]) for tool in tools),
        example=form.write([("NAME", {"ARGUMENT": "VALUE"})]),
    )
    if messages and messages[0]["role"] == "system":
        first = messages[0]
        return [{**first, "content": _joined(first["content"], "\n\n", text)}, *messages[1:]]
    kind: Any = type(messages[0]["content"]) if messages else str
    return [{"role": "system", "content": _joined(kind(), "", text)}, *messages]


def _joined(content: Any, gap: str, more: Any) -> Any:
    """Content and more of it: a string if both are, else parts."""
    if isinstance(content, str) and isinstance(more, str):
        return content + (gap if content else "") + more
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    parts = more if isinstance(more, list) else [{"type": "text", "text": more}]
    between = [{"type": "text", "text": gap}] if content and gap else []
    joined: list[dict[str, Any]] = []
    for part in [*content, *between, *parts]:
        # Texts side by side are one: some templates write the first part of a content only.
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1] = {"type": "text", "text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def _complete(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with all that a template may ask for, where it may be left out: descriptions of
    the tool and its arguments, their types, and what is required."""
    function = tool["function"]
    schema = {"type": "object", "properties": {}, "required": [], **parameters(function)}
    schema["properties"] = {
        name: {"type": "string", "description": "", **one} if isinstance(one, Mapping) else one
        for name, one in properties(schema).items()
    }
    return {**tool, "function": {"description": "", **function, "parameters": schema}}


def images_first(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The same with the images of each user's turn before its text, for models trained so.

    Messages of the user side by side, one of which holds an image, become one. Images keep their
    order, and so do texts.
    """
    arranged: list[Message] = []
    for role, run in groupby(messages, lambda message: message["role"]):
        turn = [dict(message) for message in run]
        contents = [message["content"] for message in turn]
        images = [
            part
            for content in contents
            if not isinstance(content, str)
            for part in content
            if part["type"] == "image"
        ]
        if role == "user" and images:
            text = joined_text(*contents)
            parts = [*images, {"type": "text", "text": text}] if text else images
            turn = [{**turn[0], "content": parts}]
        arranged += turn
    return arranged


def without_system(messages: list[Message]) -> list[Message] | None:
    """The same with the system's text before the first user's; None where there is none."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system or not rest or rest[0]["role"] != "user":
        return None
    content = system[0]
    for more in [*system[1:], rest[0]["content"]]:
        content = _joined(content, "\n\n", more)
    return [{**rest[0], "content": content}, *rest[1:]]


def alternating(messages: list[Message]) -> list[Message] | None:
    """The same with texts of one role side by side as one message; None where there are none."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else message
        pair = (last, message)
        if joined and last["role"] == message["role"] and all(set(m) == _TEXT for m in pair):
            joined[-1] = {**last, "content": _joined(last["content"], "\n\n", message["content"])}
        else:
            joined.append(message)
    return joined if len(joined) < len(messages) else None
