"""/v1/responses, without state: what a client sends is the whole conversation."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from t2agent.engine.two_passes import Answer
from t2agent.server.chat import Asked, Completions, Reply, Stream
from t2agent.server.failures import RefusedError
from t2agent.server.replies import Delta, headers, told, usage
from t2agent.server.requests import ChatRequest, read_body
from t2agent.server.running import Running, started

_TEXTS = ("input_text", "output_text", "text")
_IGNORED = ("reasoning", "item_reference")


class ResponsesRequest(BaseModel):
    """The body of /v1/responses."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    previous_response_id: str | None = None
    metadata: dict[str, Any] | None = None

    def as_chat(self) -> ChatRequest:
        """The same as a request for a chat.

        Raises RefusedError for what needs a state, and for items and tools of other kinds.
        """
        if self.previous_response_id:
            told_ = "nothing is kept here; send the whole conversation as input"
            raise RefusedError(400, told_, "unsupported_parameter", "previous_response_id")
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        given = (
            [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        )
        for item in given:
            _add(messages, item)
        body = {
            "model": self.model,
            "messages": messages,
            "tools": [_tool(tool) for tool in self.tools or ()] or None,
            "tool_choice": _choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _format((self.text or {}).get("format")),
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stream": self.stream,
        }
        return read_body(ChatRequest, body)


class Responses:
    """Answers requests in the form of /v1/responses."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def respond(self, request: Request, body: ResponsesRequest) -> Reply | Stream:
        """The answer to /v1/responses. Raises as `Completions.chat`."""
        chat = body.as_chat()
        asked = await run_in_threadpool(self._completions.chat_asked, chat)
        running = await started(asked.base, [asked.call], 1, pieces=bool(body.stream))
        found = headers(running[0].job)
        if body.stream:
            return Stream(self._events(asked, body, running), found)
        [answer] = await self._completions.answers(request, running)
        output = _Output(asked)
        output.push(answer.generation.text, last=True)
        return Reply(self._whole(asked, body, running[0], answer, output), found)

    async def _events(
        self, asked: Asked, body: ResponsesRequest, running: list[Running]
    ) -> AsyncIterator[str]:
        count = 0

        def event(kind: str, **fields: Any) -> str:
            nonlocal count
            count += 1
            return json.dumps({"type": kind, "sequence_number": count - 1, **fields})

        begun = _response(asked, body, "in_progress", [])
        yield event("response.created", response=begun)
        yield event("response.in_progress", response=begun)
        output = _Output(asked)
        async for _, piece in self._completions.joined(running):
            last = isinstance(piece, Answer)
            for kind, fields in output.push("" if isinstance(piece, Answer) else piece, last=last):
                yield event(kind, **fields)
            if isinstance(piece, Answer):
                whole = self._whole(asked, body, running[0], piece, output)
                yield event(f"response.{whole['status']}", response=whole)

    @staticmethod
    def _whole(
        asked: Asked, body: ResponsesRequest, one: Running, answer: Answer, output: _Output
    ) -> dict[str, Any]:
        cut = answer.generation.finish_reason == "length"
        found = _response(asked, body, "incomplete" if cut else "completed", output.items)
        count = usage([answer])
        found["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        found["usage"] = {
            "input_tokens": count["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": count["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": count["total_tokens"],
        }
        return {**found, "t2agent": told(one.job, answer)}


Event = tuple[str, dict[str, Any]]


class _Output:
    """The items of a response, and the events that tell how they grow."""

    def __init__(self, asked: Asked) -> None:
        self._reader = asked.reader()
        self.items: list[dict[str, Any]] = []

    def push(self, text: str, *, last: bool = False) -> list[Event]:
        """The events that more text of the reply leads to."""
        found: list[Event] = []
        for delta in self._reader.push(text, last=last):
            found += self._grow(delta)
        return found + (self._end() if last else [])

    def _grow(self, delta: Delta) -> list[Event]:
        if thought := delta.get("reasoning_content"):
            found = self._begin("reasoning", {"summary": [{"type": "summary_text", "text": ""}]})
            self.items[-1]["summary"][0]["text"] += thought
            return [
                *found,
                self._event("reasoning_summary_text.delta", delta=thought, summary_index=0),
            ]
        if "content" in delta:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            found = self._begin("message", {"role": "assistant", "content": [part]})
            if found:
                empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
                found.append(self._event("content_part.added", content_index=0, part=empty))
            self.items[-1]["content"][0]["text"] += delta["content"]
            more = {"content_index": 0, "delta": delta["content"], "logprobs": []}
            return [*found, self._event("output_text.delta", **more)]
        [call] = delta["tool_calls"]
        function = call["function"]
        found = []
        if "id" in call:
            made = {"call_id": call["id"], "name": function["name"], "arguments": ""}
            found = [*self._end(), *self._begin("function_call", made)]
        self.items[-1]["arguments"] += function["arguments"]
        if function["arguments"]:
            more = {"delta": function["arguments"]}
            found.append(self._event("function_call_arguments.delta", **more))
        return found

    def _begin(self, kind: str, fields: Mapping[str, Any]) -> list[Event]:
        """Begin an item, unless the last is of its kind and open."""
        last = self.items[-1] if self.items else None
        if last is not None and last["type"] == kind and last["status"] == "in_progress":
            return []
        found = self._end()
        name = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
        item = {"type": kind, "id": f"{name}_{uuid.uuid4().hex}", "status": "in_progress", **fields}
        self.items.append(item)
        shown = {**item, "content": []} if kind == "message" else dict(item)
        return [*found, ("response.output_item.added", {**self._place, "item": shown})]

    def _end(self) -> list[Event]:
        """Close the item that is open."""
        if not self.items or self.items[-1]["status"] == "completed":
            return []
        item = self.items[-1]
        item["status"] = "completed"
        found: list[Event] = []
        if item["type"] == "message":
            part = item["content"][0]
            done = {"content_index": 0, "text": part["text"], "logprobs": []}
            found.append(self._event("output_text.done", **done))
            found.append(self._event("content_part.done", content_index=0, part=part))
        elif item["type"] == "function_call":
            done = {"name": item["name"], "arguments": item["arguments"]}
            found.append(self._event("function_call_arguments.done", **done))
        return [*found, ("response.output_item.done", {**self._place, "item": dict(item)})]

    @property
    def _place(self) -> dict[str, Any]:
        return {"output_index": len(self.items) - 1}

    def _event(self, kind: str, **fields: Any) -> Event:
        return f"response.{kind}", {**self._place, "item_id": self.items[-1]["id"], **fields}


def _response(
    asked: Asked, body: ResponsesRequest, status: str, output: Sequence[Any]
) -> dict[str, Any]:
    options = asked.call.options
    return {
        "id": asked.id.replace("chatcmpl-", "resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": body.model or asked.base.name,
        "output": list(output),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_output_tokens": body.max_output_tokens,
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "text": body.text or {"format": {"type": "text"}},
        "previous_response_id": None,
        "usage": None,
    }


def _add(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    """Add an item of an input to the messages of a chat."""
    kind = item.get("type", "message")
    if kind in _IGNORED:
        return
    if kind == "function_call":
        call = {"id": item.get("call_id"), "type": "function"}
        call["function"] = {"name": item.get("name"), "arguments": item.get("arguments")}
        if not messages or "tool_calls" not in messages[-1]:
            messages.append({"role": "assistant", "content": None, "tool_calls": []})
        messages[-1]["tool_calls"].append(call)
    elif kind == "function_call_output":
        result, number = item.get("output"), item.get("call_id")
        messages.append({"role": "tool", "tool_call_id": number, "content": _content(result)})
    elif kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
    else:
        raise RefusedError(
            400,
            f"input holds an item of type {kind!r:.40}; give messages, function_call and "
            "function_call_output",
            "unsupported_value",
            "input",
        )


def _content(content: Any) -> str | list[Any]:
    """A content as a chat has it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RefusedError(
            400, f"a content is {content!r:.80}; give text or parts", "invalid_value"
        )
    return [
        {"type": "text", "text": part.get("text", "")}
        if isinstance(part, Mapping) and part.get("type") in _TEXTS
        else {"type": "image_url", "image_url": {"url": part.get("image_url")}}
        if isinstance(part, Mapping) and part.get("type") == "input_image"
        else part
        for part in content
    ]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        told_ = f"a tool of type {tool.get('type')!r:.40} is not served here; give functions"
        raise RefusedError(400, told_, "unsupported_value", "tools")
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _choice(given: Any) -> Any:
    if isinstance(given, Mapping) and given.get("type") == "function" and "name" in given:
        return {"type": "function", "function": {"name": given["name"]}}
    return given


def _format(given: Any) -> Any:
    """A text.format as the response_format of a chat."""
    if isinstance(given, Mapping) and given.get("type") == "json_schema":
        inner = {name: value for name, value in given.items() if name != "type"}
        return {"type": "json_schema", "json_schema": inner}
    return given
