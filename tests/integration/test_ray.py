"""Two replicas of t2-nano, of which one is killed under load. Skipped where Ray is absent."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("ray.serve", reason="Ray is not installed: pip install 't2agent[ray]'")

from t2agent.bench.serving import running
from t2agent.errors import ConfigError
from t2agent.server.app import ServerOptions
from t2agent.server.replicas import Replica, Replicas, serving
from t2agent.server.served import Served

KEY = "sesame"
HEADERS = {"Authorization": f"Bearer {KEY}"}
TASKS = (
    "What is {} * 3 + 12?",
    "Sort these numbers: {} 9 4 1",
    "Spell the word number {} backwards.",
)
MODELS = ("t2-nano", "t2-nano:base")
COUNT = 60


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str, Served]]:
    """A server with replicas, one that answers by itself, and what the first serves."""
    options = ServerOptions(key=KEY)
    alone = Served(["t2-nano"], rows=4)
    with (
        running(alone, options) as plain,
        serving(["t2-nano"], count=2, cpus=0.4, gpus=0.0, rows=4) as served,
        running(served, options) as replicated,
    ):
        yield replicated, plain, served


def asked(number: int) -> dict[str, Any]:
    return {
        "model": MODELS[number % 2],
        "messages": [{"role": "user", "content": TASKS[number % 3].format(number)}],
        "max_tokens": 32,
        "seed": number,
        "temperature": 0.8 if number % 5 == 0 else 0.0,
        "stream": number % 2 == 1 or number % 5 == 0,
    }


def said(
    url: str, body: dict[str, Any], begun: Callable[[], Any] = lambda: None
) -> tuple[str, str, Any]:
    """The text of a reply, why it ended, and the mixture; whole or put together of its pieces.

    begun: called at each event of a stream from the fourth on.
    """
    lines = []
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers=HEADERS, timeout=300
    ) as found:
        for line in found.iter_lines():
            if line:
                lines.append(line.removeprefix("data: "))
            if len(lines) >= 4:
                begun()
    assert found.status_code == 200, lines
    mixture = found.headers["x-t2agent-mixture"]
    if not body["stream"]:
        [choice] = json.loads("".join(lines))["choices"]
        return choice["message"]["content"], choice["finish_reason"], mixture
    assert lines[-1] == "[DONE]", lines[-1]
    events = [json.loads(line) for line in lines[:-1] if line.startswith("{")]
    assert not any("error" in event for event in events), events[-1]
    choices = [event["choices"][0] for event in events]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    return text, choices[-1]["finish_reason"], mixture


def replicas() -> list[psutil.Process]:
    """The replicas' processes, children of this one's Ray."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if "ServeReplica" in "".join(one.cmdline()[:1])]


def both() -> list[psutil.Process]:
    """The two replicas, once both are there."""
    until = time.monotonic() + 120
    while len(found := replicas()) != 2:
        assert time.monotonic() < until, f"{len(found)} replicas, and Ray starts no other"
        time.sleep(0.5)
    return found


def lost(caplog: pytest.LogCaptureFixture) -> int:
    """Tries that ended with their replica."""
    return sum("a replica was lost" in one.getMessage() for one in caplog.records)


def test_requests_of_a_mixture_gather_and_their_stream_outlives_the_replica(
    servers: tuple[str, str, Served], caplog: pytest.LogCaptureFixture
) -> None:
    replicated, plain, served = servers
    scheduler = served.first.scheduler
    assert isinstance(scheduler, Replicas)
    schema = {
        "type": "object",
        "properties": {"story": {"type": "string", "minLength": 150, "maxLength": 200}},
        "required": ["story"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "story", "schema": schema}}
    body = asked(15) | {"max_tokens": 300, "response_format": form}
    assert body["stream"]
    assert body["temperature"]
    expected = said(plain, body)
    assert len(expected[0]) > 100
    said(replicated, body | {"max_tokens": 1})
    time.sleep(1)  # until Ray's router knows who answered
    handle = scheduler._handle().options(multiplexed_model_id="t2-nano:base")
    pids = {handle.run.remote("t2-nano", lambda _: os.getpid()).result() for _ in range(6)}
    assert len(pids) == 1
    [pid] = pids
    with ExitStack() as once:
        once.callback(os.kill, pid, signal.SIGKILL)
        assert said(replicated, body, once.close) == expected
    assert lost(caplog) == 1


def test_a_replica_that_is_killed_under_load_loses_no_request(
    servers: tuple[str, str, Served], caplog: pytest.LogCaptureFixture
) -> None:
    replicated, plain, _ = servers
    bodies = [asked(number) for number in range(COUNT)]
    expected = [said(plain, body) for body in bodies]
    left = both()
    replies = []
    with ThreadPoolExecutor(8) as pool:
        for reply in pool.map(partial(said, replicated), bodies):
            replies.append(reply)
            if len(replies) == COUNT // 4:  # others are underway
                max(left, key=lambda one: one.cpu_times().user).kill()
    assert replies == expected
    assert lost(caplog)
    both()


def test_errors_and_decisions_are_as_without_replicas(servers: tuple[str, str, Served]) -> None:
    long = {"messages": [{"role": "user", "content": "7 " * 5000}]}
    question = {"type": "noul", "instructions": "Is this a sum?"}
    decision = {"state": "What is 7 * 3 + 12?", "questions": {"sum": question}}
    empty = {"state": "x", "questions": {"which": {"type": "choice", "options": []}}}
    for route, body in (
        ("/v1/chat/completions", long),
        ("/v1/chat/completions", {**long, "model": "t2-nano:nobody"}),
        ("/v1/systemone", decision),
        ("/v1/systemone", empty),
        ("/tokenize", {"prompt": "What is 7?"}),
    ):
        with_, without = (
            httpx.post(url + route, json=body, headers=HEADERS, timeout=300) for url in servers[:2]
        )
        assert with_.status_code == without.status_code, (route, with_.text)
        assert with_.json() == without.json()


def test_strategies_that_ask_the_base_model_are_refused() -> None:
    with (
        pytest.raises(ConfigError, match="embedding and off"),
        serving(["t2-nano"], count=1, dispatch="prompt"),
    ):
        pass


def test_a_model_with_other_weights_is_refused_by_a_replica() -> None:
    with pytest.raises(ConfigError, match="other weights"):
        Replica(["t2-nano"], {"t2-nano": "0" * 64}, {"dispatch": "off"})
