"""What an endpoint may do wrong, by a real server, to requests, streams and both asynchronously."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from t2agent.chat.remote.endpoint import DONE, Access, Endpoint
from t2agent.errors import ConfigError, ContextLengthError, EndpointError
from tests.openai_server import KEY, Fault, OpenAIServer, serving

PIECE = b'{"choices": [{"delta": {"content": "a"}}]}'
EVENT = b"data: " + PIECE + b"\n\n"
WHOLE = b'{"choices": [{"message": {"content": "a"}}]}'
GOOD = Fault(body=WHOLE)


class Bare:
    registry: tuple[str, ...] = ()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(Bare(), {}) as found:
        yield found


def endpoint(server: OpenAIServer, **more: Any) -> Endpoint:
    more = {"timeout": 10.0, **more}
    return Endpoint(Access(url=server.url, **more))


def complete(there: Endpoint) -> Any:
    return there.complete({"model": "m"})


def acomplete(there: Endpoint) -> Any:
    return asyncio.run(there.acomplete({"model": "m"}))


def stream(there: Endpoint) -> Any:
    return list(there.stream({"model": "m"}))


def astream(there: Endpoint) -> Any:
    async def collect() -> list[Mapping[str, Any]]:
        return [piece async for piece in there.astream({"model": "m"})]

    return asyncio.run(collect())


WAYS = pytest.mark.parametrize("ask", [complete, acomplete, stream, astream])
Ask = Callable[[Endpoint], Any]


def good(ask: Ask) -> Fault:
    streams = ask in (stream, astream)
    return Fault(raw=EVENT + b"data: [DONE]\n\n") if streams else GOOD


def is_answer(found: Any) -> bool:
    return found in (json.loads(WHOLE), [json.loads(PIECE), DONE])


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
            ask(Endpoint(Access(url=url, retries=1)))
    assert raised.value.status is None


@WAYS
@pytest.mark.parametrize("nonsense", [b"<html>hello</html>", b'{"a": ', b"[1, 2]", b"\xff\xfe"])
def test_an_answer_that_is_none(server: OpenAIServer, ask: Ask, nonsense: bytes) -> None:
    streams = ask in (stream, astream)
    server.faults = [Fault(raw=b"data: " + nonsense + b"\n\n") if streams else Fault(body=nonsense)]
    with pytest.raises(EndpointError, match="base_url is that of an OpenAI-compatible API"):
        ask(endpoint(server))


@pytest.mark.parametrize("ask", [stream, astream])
def test_an_error_in_the_midst_of_a_stream(server: OpenAIServer, ask: Ask) -> None:
    broken = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    server.faults = [Fault(raw=EVENT + broken)]
    with pytest.raises(EndpointError, match="broke its answer off: out of memory"):
        ask(endpoint(server))


@pytest.mark.parametrize("ask", [stream, astream])
def test_a_stream_that_is_cut(server: OpenAIServer, ask: Ask) -> None:
    """Without the last chunk of HTTP, or within an event; without an end, `StreamReader` tells."""
    server.faults = [Fault(status=200, body=EVENT, headers={"Content-Length": "9999"})]
    with pytest.raises(EndpointError, match="no whole answer came"):
        ask(endpoint(server, timeout=0.5))
    for rest in (b"", b'data: {"cho', b"data", b": x"):
        server.faults = [Fault(raw=EVENT + rest)]
        assert ask(endpoint(server)) == [json.loads(PIECE)]
    server.faults = [Fault(raw=EVENT + b"data: [DONE]")]
    assert ask(endpoint(server)) == [json.loads(PIECE), DONE]


@WAYS
def test_a_prompt_that_is_too_long(server: OpenAIServer, ask: Ask) -> None:
    said = b'{"message": "This model\'s maximum context length is 8 tokens"}'
    server.faults = [Fault(400, body=said)]
    with pytest.raises(ContextLengthError, match=r"8 tokens.*max_tokens"):
        ask(endpoint(server))


@WAYS
def test_the_key_is_sent_and_never_shown(server: OpenAIServer, ask: Ask) -> None:
    server.key = "another"
    there = endpoint(server, key=SecretStr(KEY), headers={"X-More": "1"})
    with pytest.raises(EndpointError, match="Incorrect API key") as raised:
        ask(there)
    assert KEY not in str(raised.value)
    assert "***" in str(raised.value)
    server.key = KEY
    server.faults = [good(ask)]
    assert is_answer(ask(there))
    assert server.headers[0]["X-More"] == "1"
    assert KEY not in repr(there) + repr(there.access)


@WAYS
def test_requests_that_are_no_json(server: OpenAIServer, ask: Ask) -> None:
    there = endpoint(server)
    for body in ({"a": float("nan")}, {"a": object()}, {"a": "\ud800"}):
        with pytest.raises(ConfigError):
            there.complete(body)
        with pytest.raises(ConfigError):
            list(there.stream(body))
    assert not server.requests


def test_lists_of_models(server: OpenAIServer) -> None:
    there = endpoint(server)
    assert [one["id"] for one in there.models() or ()] == ["t2-nano"]
    server.lists = False
    assert there.models() is None


def test_a_client_of_ones_own(server: OpenAIServer) -> None:
    seen: list[str] = []
    hooks: dict[str, list[Any]] = {"request": [lambda request: seen.append(str(request.url))]}
    with httpx.Client(event_hooks=hooks) as client:
        server.faults = [GOOD]
        assert is_answer(complete(endpoint(server, client=client)))
    assert seen == [server.url + "/chat/completions"]


def test_event_loops_one_after_the_other_and_at_once(server: OpenAIServer) -> None:
    there = endpoint(server)

    async def many() -> list[Any]:
        return await asyncio.gather(*(there.acomplete({"model": "m"}) for _ in range(8)))

    for _ in range(2):
        server.faults = [GOOD] * 8
        assert all(map(is_answer, asyncio.run(many())))
