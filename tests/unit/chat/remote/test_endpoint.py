"""What an endpoint may do wrong, by a real server, to requests, streams and both asynchronously."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from pydantic import SecretStr

from t2agent.chat.remote.endpoint import Endpoint
from t2agent.errors import ConfigError, ContextLengthError, EndpointError
from tests.openai_server import KEY, Fault, OpenAIServer, serving
from tests.remote_models import joined

PIECE = b'{"choices": [{"delta": {"content": "a"}}]}'
END = b'{"choices": [{"delta": {}, "finish_reason": "length"}]}'
EVENT = b"data: " + PIECE + b"\n\n"
STREAM = EVENT + b"data: " + END + b"\n\ndata: [DONE]\n\n"
WHOLE = b'{"choices": [{"message": {"content": "a"}, "finish_reason": "length"}]}'
GOOD = Fault(body=WHOLE)
BODY = {"model": "m", "messages": []}


class Bare:
    registry: tuple[str, ...] = ()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(Bare(), {}) as found:
        yield found


def endpoint(server: OpenAIServer, **more: Any) -> Endpoint:
    return Endpoint(**{"url": server.url, "timeout": 10.0, **more})


def complete(there: Endpoint, **more: Any) -> Any:
    return there.complete({**BODY, **more}).generations[0].message


def acomplete(there: Endpoint, **more: Any) -> Any:
    return asyncio.run(there.acomplete({**BODY, **more})).generations[0].message


def stream(there: Endpoint, **more: Any) -> Any:
    return joined([one.message for one in there.stream({**BODY, **more}, usage=True)])


def astream(there: Endpoint, **more: Any) -> Any:
    async def collect() -> list[Any]:
        return [one.message async for one in there.astream({**BODY, **more}, usage=True)]

    return joined(asyncio.run(collect()))


WAYS = pytest.mark.parametrize("ask", [complete, acomplete, stream, astream])
STREAMS = pytest.mark.parametrize("ask", [stream, astream])
Ask = Callable[..., Any]


def good(ask: Ask) -> Fault:
    return Fault(raw=STREAM) if ask in (stream, astream) else GOOD


def is_answer(found: Any) -> bool:
    return (found.content, found.response_metadata) == ("a", {"finish_reason": "length"})


@WAYS
def test_failures_that_pass_are_tried_again(server: OpenAIServer, ask: Ask) -> None:
    server.faults = [Fault(429, {"Retry-After": "0.2"}), Fault(drop=True), good(ask)]
    begun = time.monotonic()
    assert is_answer(ask(endpoint(server)))
    assert len(server.requests) == 3
    assert time.monotonic() - begun > 0.2 + 0.5


@WAYS
def test_and_no_oftener_than_one_wants(server: OpenAIServer, ask: Ask) -> None:
    server.faults = [Fault(503, {"Retry-After": "0"})] * 5
    with pytest.raises(EndpointError, match="503 Service Unavailable: a fault") as raised:
        ask(endpoint(server, retries=1))
    assert raised.value.status == 503
    assert len(server.requests) == 2


@WAYS
@pytest.mark.parametrize("status", [400, 401, 404, 422, 307])
def test_failures_that_stay_are_told_at_once(server: OpenAIServer, ask: Ask, status: int) -> None:
    server.faults = [Fault(status, {"Location": "http://127.0.0.1:9/"})] * 3
    with pytest.raises(EndpointError, match=f"answered {status} .*: a fault"):
        ask(endpoint(server))
    assert len(server.requests) == 1


@WAYS
def test_a_wait_that_is_too_long_is_told_instead(server: OpenAIServer, ask: Ask) -> None:
    server.faults = [Fault(429, {"Retry-After": "3600"})]
    with pytest.raises(EndpointError, match="try again in 3600 s"):
        ask(endpoint(server))


@WAYS
def test_a_slow_endpoint_is_asked_once(server: OpenAIServer, ask: Ask) -> None:
    server.faults = [Fault(seconds=1.0, raw=b"")]
    begun = time.monotonic()
    with pytest.raises(EndpointError, match=r"ReadTimeout.*\(timeout\)"):
        ask(endpoint(server, timeout=0.2))
    assert time.monotonic() - begun < 1.0
    assert len(server.requests) == 1


@WAYS
def test_nobody_is_there(ask: Ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=r"ConnectError.*base_url is right") as raised:
            ask(Endpoint(url=url, retries=1))
    assert raised.value.status is None


@WAYS
@pytest.mark.parametrize("nonsense", [b"<html>hello</html>", b'{"a": ', b"[1, 2]", b"\xff\xfe"])
def test_an_answer_that_is_none(server: OpenAIServer, ask: Ask, nonsense: bytes) -> None:
    streams = ask in (stream, astream)
    server.faults = [Fault(raw=b"data: " + nonsense + b"\n\n") if streams else Fault(body=nonsense)]
    with pytest.raises(EndpointError, match="base_url is that of an OpenAI-compatible API"):
        ask(endpoint(server))


@WAYS
@pytest.mark.parametrize(
    "broken",
    [
        b'{"error": {"message": "out of memory", "code": 500}}',
        b'{"object": "error", "message": "out of memory", "code": 500}',
    ],
)
def test_an_error_instead_of_an_answer(server: OpenAIServer, ask: Ask, broken: bytes) -> None:
    """And in the midst of a stream."""
    streams = ask in (stream, astream)
    raw = EVENT + b"data: " + broken + b"\n\n"
    server.faults = [Fault(raw=raw) if streams else Fault(body=broken)]
    with pytest.raises(EndpointError, match="broke its answer off: out of memory"):
        ask(endpoint(server))


@STREAMS
def test_a_stream_that_is_cut(server: OpenAIServer, ask: Ask) -> None:
    """Without the last chunk of HTTP, within an event, between two, and before the first."""
    server.faults = [Fault(status=200, body=EVENT, headers={"Content-Length": "9999"})]
    with pytest.raises(EndpointError, match="no whole answer came"):
        ask(endpoint(server, timeout=0.5))
    for raw in (EVENT, EVENT + b'data: {"cho', EVENT + b"data", b"", b"data: [DONE]\n\n"):
        server.faults = [Fault(raw=raw)]
        with pytest.raises(EndpointError, match="before its end"):
            ask(endpoint(server))


@STREAMS
def test_the_end_of_an_answer_is_enough(server: OpenAIServer, ask: Ask) -> None:
    for rest in (b"", b'data: {"cho', b"data: [DONE]"):
        server.faults = [Fault(raw=STREAM.removesuffix(b"data: [DONE]\n\n") + rest)]
        assert is_answer(ask(endpoint(server)))


@STREAMS
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_of_any_form(server: OpenAIServer, ask: Ask, end: bytes) -> None:
    text = "\u2028\x85 ä"
    piece = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode()
    half = piece.index(b"[")
    lines = [
        b": keep-alive", b"", b"event: x", b"id: 7", b"data:" + piece, b"",
        b"data: " + piece[:half], b"data: " + piece[half:], b"",
        b"retry: soon", b"data: " + END, b"", b"data: [DONE]", b"",
    ]  # fmt: skip
    server.faults = [Fault(raw=b"".join(line + end for line in lines))]
    assert ask(endpoint(server)).content == text * 2


@WAYS
@pytest.mark.parametrize(
    "said",
    [
        b'{"message": "This model\'s maximum context length is 8 tokens"}',
        b'{"error": {"message": "x 8 tokens", "code": "context_length_exceeded"}}',
    ],
)
def test_a_prompt_that_is_too_long(server: OpenAIServer, ask: Ask, said: bytes) -> None:
    server.faults = [Fault(400, body=said), Fault(500, body=said)]
    with pytest.raises(ContextLengthError, match=r"8 tokens.*max_tokens"):
        ask(endpoint(server))
    with pytest.raises(EndpointError, match="8 tokens"):
        ask(endpoint(server, retries=0))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "too\n many", "code": 429}}, "too many"),
        ({"error": "plain"}, "plain"),
        ({"object": "error", "message": "of old vLLM"}, "of old vLLM"),
        ({"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]'),
        ({"error": None}, "nothing more"),
        (["x"], '["x"]'),
        ("x" * 5000, "x" * 500 + "..."),
    ],
)
def test_the_endpoints_own_words(server: OpenAIServer, body: object, said: str) -> None:
    server.faults = [Fault(400, body=json.dumps(body).encode())]
    with pytest.raises(EndpointError) as raised:
        complete(endpoint(server))
    assert f"answered 400 Bad Request: {said} - change the request" in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(401, body=b"no"), "401 Unauthorized: no - give a key.*T2AGENT_REMOTE_API_KEY"),
        (Fault(307, {"Location": "http://other/v1"}), "'http://other/v1'"),
        (Fault(429, {"Retry-After": "3600"}), "in 3600 s"),
        (Fault(418, body=b"\xff<html>"), "<html> - see the endpoint's log"),
    ],
)
def test_errors_tell_what_to_do(server: OpenAIServer, fault: Fault, told: str) -> None:
    server.faults = [fault]
    with pytest.raises(EndpointError, match=told) as raised:
        complete(endpoint(server))
    assert raised.value.status == fault.status


@WAYS
def test_the_key_is_sent_and_never_shown(server: OpenAIServer, ask: Ask) -> None:
    server.key = "another"
    there = endpoint(server, key=SecretStr(KEY), headers={"X-More": "1"})
    with pytest.raises(EndpointError, match="Incorrect API key") as raised:
        ask(there)
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert "***" in str(raised.value)
    server.key = KEY
    server.faults = [good(ask)]
    assert is_answer(ask(there))
    assert server.headers[0]["X-More"] == "1"
    assert KEY not in repr(there)


@WAYS
def test_nothing_of_the_environment_is_sent(
    server: OpenAIServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "ORGANIZATION", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "lsv2_leaked")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LANGSMITH_GATEWAY", "true")
    monkeypatch.setenv("LANGSMITH_GATEWAY_API_KEY", "lsv2_leaked")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Leaked: lsv2_leaked\nauthorization: leaked")
    server.faults = [good(ask), good(ask)]
    for key in (None, SecretStr(KEY)):
        assert is_answer(ask(endpoint(server, key=key)))
        sent = server.headers.pop()
        assert sent.pop("Authorization", None) == (key and f"Bearer {KEY}")
        assert set(sent) <= {
            "Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "Content-Type",
            "Content-Length", "X-Stainless-Raw-Response",
        }  # fmt: skip
        assert "leaked" not in "".join(sent.values())


@WAYS
def test_requests_that_are_no_json(server: OpenAIServer, ask: Ask) -> None:
    for wrong in (float("nan"), object(), "\ud800"):
        with pytest.raises(ConfigError, match="no JSON"):
            ask(endpoint(server), a=wrong)
    assert not server.requests


def test_lists_of_models(server: OpenAIServer) -> None:
    there = endpoint(server)
    assert [one["id"] for one in there.models() or ()] == ["t2-nano"]
    server.lists = False
    assert there.models() is None


def test_clients_of_ones_own(server: OpenAIServer) -> None:
    seen: list[str] = []

    async def see(request: Any) -> None:
        seen.append(str(request.url))

    async def ask(client: Any) -> Any:
        async with client:
            return (await endpoint(server, async_client=client).acomplete(BODY)).generations[0]

    for library in (httpx, httpx2):
        server.faults = [GOOD, GOOD]
        hooks: dict[str, list[Any]] = {"request": [lambda request: seen.append(str(request.url))]}
        with library.Client(event_hooks=hooks) as client:
            assert is_answer(complete(endpoint(server, client=client)))
        client = library.AsyncClient(event_hooks={"request": [see]})
        assert is_answer(asyncio.run(ask(client)).message)
    assert seen == [server.url + "/chat/completions"] * 4
    with pytest.raises(ConfigError, match="httpx"):
        endpoint(server, client="proxy")


def test_event_loops_one_after_the_other_and_at_once(server: OpenAIServer) -> None:
    there = endpoint(server)

    async def many() -> list[Any]:
        return await asyncio.gather(*(there.acomplete(BODY) for _ in range(8)))

    for _ in range(2):
        server.faults = [GOOD] * 8
        assert all(is_answer(one.generations[0].message) for one in asyncio.run(many()))
