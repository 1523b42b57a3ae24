"""Two replicas of t2-nano, of which one is killed under load. Skipped where Ray is absent."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("ray.serve", reason="Ray is not installed: pip install 't2agent[ray]'")

from t2agent.bench.serving import running
from t2agent.errors import ConfigError
from t2agent.server.app import ServerOptions
from t2agent.server.replicas import Replica, serving
from t2agent.server.served import Served

KEY = "sesame"
TASKS = (
    "What is {} * 3 + 12?",
    "Sort these numbers: {} 9 4 1",
    "Spell the word number {} backwards.",
)
MODELS = ("t2-nano", "t2-nano:base")
COUNT = 60


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """A server with replicas, and one that answers by itself."""
    options = ServerOptions(key=KEY)
    alone = Served(["t2-nano"], rows=4)
    with (
        running(alone, options) as plain,
        serving(["t2-nano"], count=2, cpus=0.4, gpus=0.0, rows=4) as served,
        running(served, options) as replicated,
    ):
        yield replicated, plain


def asked(number: int) -> dict[str, Any]:
    return {
        "model": MODELS[number % 2],
        "messages": [{"role": "user", "content": TASKS[number % 3].format(number)}],
        "max_tokens": 48,
        "seed": number,
        "temperature": 0.8 if number % 5 == 0 else 0.0,
        "stream": number % 2 == 1 or number % 5 == 0,
    }


def said(url: str, body: dict[str, Any]) -> tuple[str, str, Any]:
    """The text of a reply, why it ended, and the mixture; whole or put together of its pieces."""
    found = httpx.post(
        f"{url}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=300,
    )
    assert found.status_code == 200, found.text
    mixture = found.headers["x-t2agent-mixture"]
    if not body["stream"]:
        [choice] = found.json()["choices"]
        return choice["message"]["content"], choice["finish_reason"], mixture
    lines = [line.removeprefix("data: ") for line in found.text.splitlines() if line]
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


def test_a_replica_that_is_killed_loses_no_request(addresses: tuple[str, str]) -> None:
    replicated, plain = addresses
    bodies = [asked(number) for number in range(COUNT)]
    expected = [said(plain, body) for body in bodies]
    before = replicas()
    assert len(before) == 2
    ended = 0
    lock = threading.Lock()
    killed = []

    def one(body: dict[str, Any]) -> tuple[str, str, Any]:
        nonlocal ended
        found = said(replicated, body)
        with lock:
            ended += 1
            if ended == COUNT // 4:  # while others are underway
                busiest = max(before, key=lambda process: sum(process.cpu_times()[:2]))
                os.kill(busiest.pid, signal.SIGKILL)
                killed.append(busiest.pid)
        return found

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, bodies)) == expected
    assert killed
    until = time.monotonic() + 90
    while len(now := replicas()) < 2 or killed[0] in {process.pid for process in now}:
        assert time.monotonic() < until, "Ray started no other replica"
        time.sleep(0.5)


def test_errors_and_decisions_are_as_without_replicas(addresses: tuple[str, str]) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
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
            httpx.post(url + route, json=body, headers=headers, timeout=300) for url in addresses
        )
        assert with_.status_code == without.status_code, (route, with_.text)
        assert with_.json() == without.json()


def test_strategies_that_ask_the_base_model_are_refused() -> None:
    with (
        pytest.raises(ConfigError, match="embedding and off"),
        serving(["t2-nano"], dispatch="prompt"),
    ):
        pass


def test_a_model_with_other_weights_is_refused_by_a_replica() -> None:
    with pytest.raises(ConfigError, match="other weights"):
        Replica(["t2-nano"], {"t2-nano": "0" * 64}, {"dispatch": "off"})
