"""A server: requests at once against one after the other, over HTTP against within the process, and
a storm of good and bad ones.

Figures wanted, for 16 requests to several experts with replies of their own lengths: at least 3
times the throughput, each reply equal to the one that its request gets alone; over HTTP at least
.95 of within the process. Of 2,000 requests, 64 at once, with connections that are closed, bad
bodies, large images and wrong keys: no reply of another request's expert, every refusal an error of
OpenAI's form, the 99th percentile of /health below 100 ms, and at most 100 MB more memory after
than before.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import httpx
import psutil

from t2agent.bench.shapes import ratio
from t2agent.engine.batching import Call
from t2agent.engine.two_passes import Given
from t2agent.models.installed import NANO
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.nano.tasks import TASKS
from t2agent.server.app import ServerOptions, make_app
from t2agent.server.served import Served

_TASKS = ("math", "code", "reasoning", "json")
_REAL = (
    (None, "Tell me about the history of the city of Rome."),
    ("arithmetic", "A box holds 12 pens. How many pens are in 7 boxes?"),
    ("answer", "Tell me in two sentences why the sky is blue."),
    ("tools", "Give me three tips for learning to cook, with a sentence each."),
)


def run(
    model: str = NANO, requests: int = 16, repeats: int = 3, tokens: int = 100, storm: int = 2000
) -> dict[str, Any]:
    """The ratios, and what became of a storm; storm: its requests, 0 for none."""
    served = Served([model], rows=requests)
    asked = _nano(requests) if model == NANO else _real(requests)
    found = _throughput(served, asked, repeats, tokens)
    if storm:
        found["storm"] = _storm(storm)
    return found


def _nano(count: int) -> list[tuple[str | None, str]]:
    each = -(-count // len(_TASKS))
    samples = [TASKS[name].sample(each, seed=0, split="test") for name in _TASKS]
    found: list[tuple[str | None, str]] = []
    for row in zip(*samples, strict=True):
        found += [(name, example.prompt) for name, example in zip(_TASKS, row, strict=True)]
    return found[:count]


def _real(count: int) -> list[tuple[str | None, str]]:
    rows = [(name, f"{text} ({at})") for at in range(count) for name, text in _REAL]
    return rows[:count]


def _throughput(
    served: Served, asked: Sequence[tuple[str | None, str]], repeats: int, tokens: int
) -> dict[str, Any]:
    base = served.first
    options = GenerationOptions(max_tokens=tokens)
    calls = [Call(base.engine, Prompt.user(text), options, Given(name)) for name, text in asked]

    def alone() -> list[str]:
        jobs = (base.scheduler.submit(call) for call in calls)
        return [job.future.result().generation.text for job in jobs]

    def at_once() -> list[str]:
        jobs = [base.scheduler.submit(call) for call in calls]
        return [job.future.result().generation.text for job in jobs]

    key = secrets.token_hex()
    bodies = [
        {
            "model": f"{base.name}:{name or 'base'}",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
        }
        for name, text in asked
    ]
    headers = {"Authorization": f"Bearer {key}"}
    with running(served, ServerOptions(key=key)) as url, asyncio.Runner() as runner:
        # One for all turns: to make one takes as long as several replies of t2-nano.
        client = httpx.AsyncClient(base_url=url, headers=headers, timeout=600)

        async def ask() -> list[str]:
            found = await asyncio.gather(
                *(client.post("/v1/chat/completions", json=body) for body in bodies)
            )
            return [one.json()["choices"][0]["message"]["content"] for one in found]

        def over_http() -> list[str]:
            return runner.run(ask())

        alone(), at_once(), over_http()  # what is made on first use
        times: dict[str, list[float]] = {"alone": [], "at_once": [], "http": []}
        equal: list[bool] = []
        for _ in range(repeats):
            expected, seconds = _timed(alone)
            times["alone"].append(seconds)
            replies, seconds = _timed(at_once)
            times["at_once"].append(seconds)
            others, seconds = _timed(over_http)
            times["http"].append(seconds)
            for got in (replies, others):
                equal += [one == other for one, other in zip(got, expected, strict=True)]
        runner.run(client.aclose())
    return {
        "seconds": {name: median(found) for name, found in times.items()},
        "gain": ratio(times["alone"], times["at_once"]),
        "equal": sum(equal) / len(equal),
        "http_share": ratio(times["at_once"], times["http"]),
    }


def _storm(count: int) -> dict[str, Any]:
    """What becomes of many requests, some of which are bad; by t2-nano."""
    served = Served([NANO])
    key = secrets.token_hex()
    options = ServerOptions(key=key, body=1 << 20)
    asked = _nano(64)
    process = psutil.Process()

    async def blow(url: str) -> tuple[Counter[str], list[float]]:
        outcomes: Counter[str] = Counter()
        health: list[float] = []
        places = asyncio.Semaphore(64)
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

            async def watch() -> None:
                while True:
                    begun = time.perf_counter()
                    await client.get("/health")
                    health.append(time.perf_counter() - begun)
                    await asyncio.sleep(0.05)

            async def one(number: int) -> None:
                async with places:
                    outcomes[await _outcome(client, key, number, asked)] += 1

            watching = asyncio.create_task(watch())
            await asyncio.gather(*map(one, range(count)))
            watching.cancel()
        return outcomes, health

    with running(served, options) as url:
        asyncio.run(_warm(url, key))
        before = process.memory_info().rss
        outcomes, health = asyncio.run(blow(url))
        after = process.memory_info().rss
    return {
        "outcomes": dict(sorted(outcomes.items())),
        "wrong": sum(n for what, n in outcomes.items() if what.startswith("wrong")),
        "health_p99": quantiles(health, n=100)[-1],
        "more_memory": after - before,
    }


async def _warm(url: str, key: str) -> None:
    """Have everything made that is made on first use."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        asked = _nano(64)
        places = range(0, 640, 10)
        await asyncio.gather(*(_outcome(client, key, number, asked) for number in places))


async def _outcome(
    client: httpx.AsyncClient, key: str, number: int, asked: Sequence[tuple[str | None, str]]
) -> str:
    """One request of a storm, and what became of it."""
    chance = random.Random(number)
    name, text = asked[number % len(asked)]
    body: dict[str, Any] = {
        "model": f"{NANO}:{name}",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": chance.randint(4, 40),
    }
    headers = {"Authorization": f"Bearer {key}"}
    content: bytes | None = None
    kind = number % 10
    if kind == 1:
        headers = {"Authorization": "Bearer wrong"}
    elif kind == 2:
        content = b'{"messages": ['
    elif kind == 3:
        url = "data:image/png;base64," + base64.b64encode(bytes(2 << 20)).decode()
        body["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": url}}]
    elif kind == 4:
        body["model"] = f"{NANO}:nobody"
    elif kind == 5:
        return await _left(client, headers, {**body, "stream": True, "max_tokens": 200})
    data = json.dumps(body).encode() if content is None else content
    reply = await client.post("/v1/chat/completions", content=data, headers=headers)
    if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return "busy"
    found = reply.json()
    if kind in (1, 2, 3, 4):
        expected = {1: 401, 2: 400, 3: 413, 4: 404}[kind]
        typed = isinstance(found.get("error", {}).get("code"), str)
        return f"refused {expected}" if typed and reply.status_code == expected else "wrong refusal"
    if reply.status_code != httpx.codes.OK:
        return f"wrong status {reply.status_code}"
    weights = found["t2agent"]["dispatch"]["mixture"]["weights"]
    return "answered" if list(weights) == [name] else "wrong expert"


async def _left(client: httpx.AsyncClient, headers: Any, body: Any) -> str:
    """A stream of which the first lines are read."""
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return "busy"
        async for _ in reply.aiter_lines():
            break
    return "left"


def _timed(work: Any) -> tuple[list[str], float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


@contextmanager
def running(served: Served, options: ServerOptions) -> Iterator[str]:
    """The address of a server that runs in a thread meanwhile."""
    import uvicorn

    config = uvicorn.Config(make_app(served, options), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
