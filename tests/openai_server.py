"""An OpenAI-compatible server over HTTP, as vLLM is with one LoRA an expert, for tests.

A ChatT2 answers, in the dialect of vLLM: the ``model`` of a request is the base model or an
expert. Requests are kept, and what goes wrong can be said beforehand: see `Fault`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.utils import convert_to_messages

from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ContextLengthError, T2Error

KEY = "secret-of-the-tests"
_PASSED = (
    "max_tokens", "temperature", "top_p", "seed", "tools", "tool_choice", "parallel_tool_calls",
    "response_format",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What the next request gets instead of an answer.

    With a status: that answer, with ``body`` (else an error in vLLM's form) and ``headers``. Else
    ``raw`` is written as the body of a 200, and the connection is closed. ``seconds`` pass first.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None
    seconds: float = 0.0
    drop: bool = False


class OpenAIServer:
    """Answers on 127.0.0.1 while in `serving`.

    Attributes:
        base: the base model's name here.
        experts: their names here -> the expert that answers.
        requests: the bodies of the requests for completions, the first one first.
        headers: of these, Named-Like-This.
        faults: what goes wrong next, for /chat/completions.
        closed: set when a client went away before the end of its stream.
    """

    def __init__(self, chat: ChatT2, experts: Mapping[str, str], base: str = "t2-nano") -> None:
        self.chat, self.base, self.experts = chat, base, dict(experts)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.lists = True
        self.listed = 0
        self.key: str | None = None
        self.newline = b"\n"
        self.pause = 0.0
        self.closed = threading.Event()
        self.url = ""

    def models(self) -> dict[str, Any]:
        common = {"object": "model", "created": 1700000000, "owned_by": "vllm"}
        base = {"id": self.base, **common, "root": "t2-nano", "parent": None}
        loras = [
            {"id": name, **common, "root": f"/experts/{name}", "parent": self.base}
            for name in self.experts
        ]
        return {"object": "list", "data": [base, *loras]}

    def options(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Of a call of ChatT2."""
        options = {name: body[name] for name in _PASSED if body.get(name) is not None}
        expert = self.experts.get(body["model"])
        options |= {"dispatch": "off"} if expert is None else {"expert": expert}
        return {**options, "stop": body.get("stop")}


@contextmanager
def serving(chat: ChatT2, experts: Mapping[str, str] | None = None, **more: Any) -> Iterator[Any]:
    """A server with these experts (all of the chat's), each under its own name."""
    names = {name: name for name in chat.registry} if experts is None else experts
    server = OpenAIServer(chat, names, **more)

    class Handler(_Handler):
        ours = server

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    ours: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for its headers' receipt

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models" or not self.ours.lists:
            self._error(404, "Not Found", "NotFoundError")
        elif self._allowed():
            self.ours.listed += 1
            self._json(200, self.ours.models())

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/chat/completions":
            self._error(404, "Not Found", "NotFoundError")
            return
        if not self._allowed():
            return
        body = json.loads(raw)
        self.ours.requests.append(body)
        self.ours.headers.append({name.title(): text for name, text in self.headers.items()})
        if self.ours.faults and self._fault(self.ours.faults.pop(0)):
            return
        if body["model"] not in (self.ours.base, *self.ours.experts):
            self._error(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
            return
        messages, options = convert_to_messages(body["messages"]), self.ours.options(body)
        try:
            if body.get("stream"):
                self._stream(body, self.ours.chat.stream(messages, **options))
            else:
                self._json(200, _completion(body, self.ours.chat.invoke(messages, **options)))
        except ContextLengthError as error:
            self._error(400, f"This model's maximum context length is too short: {error}", "Bad")
        except T2Error as error:
            self._error(400, str(error), "BadRequestError")

    def _allowed(self) -> bool:
        if self.ours.key is None or self.headers["Authorization"] == f"Bearer {self.ours.key}":
            return True
        given = self.headers["Authorization"]
        self._error(401, f"Incorrect API key provided: {given}", "Unauthorized")
        return False

    def _fault(self, fault: Fault) -> bool:
        """Whether the fault was the answer; one that only takes time is none."""
        time.sleep(fault.seconds)
        if fault.drop:
            self.close_connection = True
        elif fault.raw is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(fault.raw)
            self.close_connection = True
        elif fault.status != 200 or fault.body is not None:
            said = {"error": {"message": "a fault", "type": "Fault", "code": fault.status}}
            body = json.dumps(said).encode() if fault.body is None else fault.body
            self._send(fault.status, body, fault.headers)
        else:
            return False
        return True

    def _stream(self, body: Mapping[str, Any], chunks: Iterator[Any]) -> None:
        chunk = next(chunks)  # an error comes before the headers
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        asked = (body.get("stream_options") or {}).get("include_usage")
        self._event(body, {"role": "assistant", "content": ""})
        self._write(b": keep-alive" + self.ours.newline * 2)
        try:
            while True:
                delta = _delta(chunk)
                if delta:
                    self._event(body, delta)
                    time.sleep(self.ours.pause)
                if reason := chunk.response_metadata.get("finish_reason"):
                    self._event(body, {}, reason)
                    if asked:
                        self._event(body, None, usage=_usage(chunk.usage_metadata))
                chunk = next(chunks)
        except StopIteration:
            self._write(b"data: [DONE]" + self.ours.newline * 2)
            self._write(b"")
        except OSError:
            self.ours.closed.set()
            self.close_connection = True

    def _event(
        self,
        body: Mapping[str, Any],
        delta: Mapping[str, Any] | None,
        reason: str | None = None,
        usage: Mapping[str, int] | None = None,
    ) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        piece = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": body["model"],
            "choices": [] if delta is None else [choice],
            **({} if usage is None else {"usage": usage}),
        }
        data = json.dumps(piece, ensure_ascii=False).encode()
        self._write(b"data: " + data + self.ours.newline * 2)

    def _write(self, data: bytes) -> None:
        """A chunk of HTTP; the empty one is the last."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, found: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(found).encode(), {})

    def _error(self, status: int, message: str, kind: str) -> None:
        self._json(status, {"error": {"message": message, "type": kind, "code": status}})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        own = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**own, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _completion(body: Mapping[str, Any], reply: AIMessage) -> dict[str, Any]:
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
        }
        for call in reply.tool_calls
    ]
    message = {"role": "assistant", "content": reply.text or None, "tool_calls": calls}
    reason = reply.response_metadata["finish_reason"]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": body["model"],
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        ],
        "usage": _usage(reply.usage_metadata),
    }  # fmt: skip


def _delta(chunk: AIMessageChunk) -> dict[str, Any]:
    delta: dict[str, Any] = {"content": chunk.text} if chunk.text else {}
    calls = []
    for call in chunk.tool_call_chunks:
        first = {"id": call["id"], "type": "function"} if call["id"] else {}
        function = {"name": call["name"]} if call["name"] else {}
        function |= {"arguments": call["args"]} if call["args"] else {}
        calls.append({"index": call["index"], **first, "function": function})
    return {**delta, "tool_calls": calls} if calls else delta


def _usage(used: Any) -> dict[str, int]:
    return {
        "prompt_tokens": used["input_tokens"],
        "completion_tokens": used["output_tokens"],
        "total_tokens": used["total_tokens"],
    }
