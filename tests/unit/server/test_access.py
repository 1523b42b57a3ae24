"""Keys, limits, closed connections, and experts that come and go."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from conftest import ADMIN, KEY

from t2agent import Expert, T2Model
from t2agent.bench.serving import running
from t2agent.server.app import OPEN, ServerOptions, make_app
from t2agent.server.chat import Limits
from t2agent.server.served import Served

ASK = [{"role": "user", "content": "Tell me a long story."}]


@pytest.fixture(scope="module")
def model() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


def http(address: str, key: str | None = KEY) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=address, headers=headers, timeout=60)


def test_no_route_but_one_answers_without_the_key(address, model):
    routes = [
        (method, route.path)
        for route in make_app(Served([model])).routes
        for method in route.methods
    ]
    assert len(routes) > 15
    with http(address, None) as client:
        for method, path in routes:
            reply = client.request(method, path.replace("{name:path}", "a").replace("{name}", "a"))
            assert (reply.status_code == 200) == (path == OPEN), (method, path)
            if path != OPEN:
                assert reply.status_code == 401
                assert reply.headers["www-authenticate"].startswith("Basic")


def test_a_wrong_key_is_refused_and_a_password_is_a_key(address):
    with http(address, "wrong") as client:
        assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{address}/v1/models", auth=("anybody", KEY)).status_code == 200
    assert httpx.get(f"{address}/", auth=("", KEY)).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_may_not_ask(address, site):
    with http(address) as client:
        headers = {"Sec-Fetch-Site": site, "Content-Type": "text/plain"}
        reply = client.post("/tokenize", content=b'{"prompt": "a"}', headers=headers)
        assert reply.json()["error"]["code"] == "cross_site"
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 200


def test_without_a_key_another_name_of_this_machine_is_refused(model):
    with running(Served([model]), ServerOptions()) as url, http(url, None) as client:
        reply = client.get("/v1/models", headers={"Host": "evil.example:80"})
        assert reply.json()["error"]["code"] == "foreign_host"
        assert client.get("/v1/models").status_code == 200


def test_experts_need_the_admin_key(address, model, tmp_path: Path):
    folder = tmp_path / "copy"
    model.registry.get("math").renamed("math-copy").save(folder)
    asked = {"source": str(folder)}
    with http(address) as client:
        assert client.post("/v1/experts", json=asked).status_code == 401
    with http(address, ADMIN) as admin:
        assert admin.post("/v1/experts", json=asked).json()["id"] == "t2-nano:math-copy"
        assert admin.post("/v1/experts", json=asked).status_code == 409
        assert admin.post("/v1/experts", json={**asked, "replace": True}).status_code == 200
        ask = {"model": "t2-nano:math-copy", "messages": [{"role": "user", "content": "2 + 3?"}]}
        assert admin.post("/v1/chat/completions", json=ask).status_code == 200
        assert "math-copy" in [one["name"] for one in admin.get("/v1/experts").json()["data"]]
        assert admin.delete("/v1/experts/t2-nano:math-copy").json()["deleted"]
        assert admin.post("/v1/chat/completions", json=ask).status_code == 404
        assert admin.post("/v1/experts", json={"source": "/nowhere"}).status_code == 400


def test_nobody_registers_experts_without_an_admin_key(model):
    with running(Served([model]), ServerOptions()) as url, http(url) as client:
        assert client.post("/v1/experts", json={"source": "a"}).status_code == 403
        assert client.get("/v1/models").status_code == 200


def test_a_running_reply_keeps_its_expert(model):
    """An expert that takes its name meanwhile changes the next reply, not this one."""
    model.registry.register(model.registry.get("math").renamed("held"), replace=True)
    other = Expert.identity(model, "held")
    ask = {"model": "t2-nano:held", "messages": [{"role": "user", "content": "7 * 3 + 12?"}]}
    with running(Served([model]), ServerOptions()) as url, http(url) as client:
        before = client.post("/v1/chat/completions", json=ask).json()
        text = ""
        with client.stream("POST", "/v1/chat/completions", json={**ask, "stream": True}) as stream:
            import json

            for line in stream.iter_lines():
                if line.startswith("data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    if not text:
                        model.registry.register(other, replace=True)
                    text += choice["delta"].get("content") or ""
        after = client.post("/v1/chat/completions", json=ask).json()
    assert text == before["choices"][0]["message"]["content"]
    assert after["choices"][0]["message"]["content"] != text
    model.registry.unregister("held")


def test_a_large_body_is_refused(model):
    options = ServerOptions(body=1000)
    with running(Served([model]), options) as url, http(url) as client:
        ask = {"model": "t2-nano", "messages": [{"role": "user", "content": "a" * 2000}]}
        assert client.post("/v1/chat/completions", json=ask).status_code == 413

        def pieces():
            yield from [b"a" * 600] * 3

        reply = client.post("/v1/chat/completions", content=pieces())
        assert reply.json()["error"]["code"] == "body_too_large"


def test_a_request_that_takes_too_long_ends(model):
    limits = Limits(seconds=0.05)
    served = Served([model])
    with running(served, ServerOptions(limits=limits)) as url, http(url) as client:
        ask = {
            "model": "t2-nano:base",
            "messages": ASK,
            "max_tokens": 900,
            "temperature": 3.0,
            "n": 16,
        }
        reply = client.post("/v1/chat/completions", json=ask)
        assert reply.status_code == 504
        assert _empty(served)


def test_a_full_queue_is_told(model):
    served = Served([model], rows=1, waiting=1)
    ask = {"model": "t2-nano:base", "messages": ASK, "max_tokens": 400, "temperature": 3.0}
    with running(served, ServerOptions()) as url:
        found: list[httpx.Response] = []

        def one() -> None:
            with http(url) as client:
                found.append(client.post("/v1/chat/completions", json=ask))

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    refused = [reply for reply in found if reply.status_code == 429]
    assert refused
    assert all(reply.headers["retry-after"] == "1" for reply in refused)
    assert any(reply.status_code == 200 for reply in found)


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_connection_frees_its_row(model, stream):
    served = Served([model], rows=2)
    ask = {"model": "t2-nano:base", "messages": ASK, "max_tokens": 900, "temperature": 3.0}
    with running(served, ServerOptions()) as url, http(url) as client:
        if stream:
            with client.stream("POST", "/v1/chat/completions", json={**ask, "stream": True}) as got:
                next(got.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json={**ask, "n": 16}, timeout=0.05)
        assert _empty(served)


def test_what_runs_is_finished_when_the_server_stops(model):
    served = Served([model])
    ask = {"model": "t2-nano:base", "messages": ASK, "max_tokens": 200, "temperature": 3.0, "n": 16}
    found: list[httpx.Response] = []
    with running(served, ServerOptions()) as url:

        def one() -> None:
            with http(url) as client:
                found.append(client.post("/v1/chat/completions", json=ask))

        thread = threading.Thread(target=one)
        thread.start()
        while not (served.first.scheduler.running or found):
            time.sleep(0.005)
    thread.join()
    assert found[0].status_code == 200
    assert found[0].json()["usage"]["completion_tokens"] > 0


def _empty(served: Served) -> bool:
    """Whether no reply is in the making within a moment."""
    until = time.monotonic() + 5
    while served.first.scheduler.running and time.monotonic() < until:
        time.sleep(0.01)
    return not served.first.scheduler.running
