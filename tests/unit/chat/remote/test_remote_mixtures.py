"""Endpoints that answer with mixtures: llama.cpp's server, and vLLM with t2agent's plugin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from t2agent import ChatT2Remote, Mixture
from t2agent.dispatch import Decision, Request
from t2agent.errors import ConfigError, ExpertNotFoundError
from tests.openai_server import serving
from tests.remote_models import MATH, STRANGE


class LlamaServer:
    """Answers as llama-server's README documents, with the scales that it was told."""

    def __init__(self) -> None:
        self.paths = ["/adapters/math.gguf", "C:\\adapters\\code-v2.gguf"]
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def answer(self, path: str) -> object:
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "nano.gguf", "owned_by": "llamacpp"}]}
        if path == "/lora-adapters":
            return [{"id": n, "path": one, "scale": 1.0} for n, one in enumerate(self.paths)]
        return None

    def reply(self, body: dict[str, Any]) -> object:
        self.requests.append(body)
        message = {"role": "assistant", "content": json.dumps(body.get("lora"))}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "1", "object": "chat.completion", "model": "nano.gguf", "choices": [choice]}


@pytest.fixture
def llama() -> Iterator[LlamaServer]:
    server = LlamaServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.say(server.answer(self.path))

        def do_POST(self) -> None:
            given = self.rfile.read(int(self.headers["Content-Length"]))
            self.say(server.reply(json.loads(given)))

        def say(self, found: object) -> None:
            data = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()


def asked(server: LlamaServer, **fields: Any) -> ChatT2Remote:
    given: dict[str, Any] = {
        "experts": ["math", "code"],
        "served": {"math": "math", "code": "code-v2"},
        "engine": "llama.cpp",
    }
    return ChatT2Remote("t2-nano", base_url=server.url, max_retries=0, **given | fields)


def scales(reply: Any) -> list[float]:
    told = json.loads(reply.content)
    assert [one["id"] for one in told] == [0, 1]  # all of them, always
    return [one["scale"] for one in told]


def test_a_mixture_becomes_scales(llama: LlamaServer) -> None:
    chat = asked(llama)
    for options, wanted in (
        ({"expert": "code"}, [0.0, 1.0]),
        ({"mixture": {"math": 0.7, "code": -0.3}}, [0.7, -0.3]),
        ({"dispatch": "off"}, [0.0, 0.0]),
        ({"mixture": {}}, [0.0, 0.0]),
    ):
        reply = chat.invoke("x", **options)
        assert scales(reply) == wanted
        assert reply.response_metadata["served"]["exact"]
        assert reply.response_metadata["served"]["lora"] == llama.requests[-1]["lora"]
    assert {body["model"] for body in llama.requests} == {"nano.gguf"}
    assert not any(body["cache_prompt"] for body in llama.requests)
    chat.invoke("x", extra_body={"cache_prompt": True})
    assert llama.requests[-1]["cache_prompt"] is True
    with pytest.raises(ConfigError, match="none of them one of"):
        chat.invoke("x", extra_body={"lora": []})


def test_dispatch_chooses_and_the_rest_is_the_base_model(llama: LlamaServer) -> None:
    chat = asked(llama)
    assert scales(chat.invoke(MATH)) == [1.0, 0.0]
    assert scales(chat.invoke(STRANGE)) == [0.0, 0.0]


def test_the_server_is_known_by_its_list_of_models(llama: LlamaServer) -> None:
    chat = asked(llama, engine=None, served=None, experts=["math"])
    assert scales(chat.invoke("x", expert="math")) == [1.0, 0.0]
    with pytest.raises(ExpertNotFoundError, match=r"start llama-server with --lora code\.gguf"):
        chat.invoke("x", expert="code")
    with pytest.warns(UserWarning, match=r"start llama-server with --lora code\.gguf"):
        asked(llama, engine=None, served=None).invoke("x", expert="math")


class Fixed:
    """Decides always the same."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def dispatch(self, requests: Any) -> list[Decision]:
        return [Decision(self.mixture, "fixed") for _ in requests]


def test_what_is_not_served_is_left_out_and_told(llama: LlamaServer) -> None:
    llama.paths.pop()
    with pytest.warns(UserWarning, match="'code' is not served"):
        reply = asked(llama).invoke("x", dispatch=Fixed(Mixture({"math": 0.5, "code": 0.5})))
    assert json.loads(reply.content) == [{"id": 0, "scale": 0.5}]
    assert not reply.response_metadata["served"]["exact"]


def test_weights_by_layers_are_refused(llama: LlamaServer) -> None:
    layered = Mixture({"math": 1.0}, {"model.layers.1": {"math": 0.0}})
    with pytest.raises(ConfigError, match="serves whole experts, not by layers"):
        asked(llama).invoke("x", mixture=layered)
    reply = asked(llama).invoke("x", dispatch=Fixed(layered))
    assert not reply.response_metadata["served"]["exact"]


def test_mixtures_by_name() -> None:
    class Bare:
        registry = ()

    with serving(Bare(), {}, base="served") as server:
        chat = ChatT2Remote("t2-nano", base_url=server.url, engine="mixtures")
        for what, model in (
            ({"math": 0.7, "code": 0.3}, "t2-nano:math=0.7+code=0.3"),
            ({"math": 1.0}, "t2-nano:math"),
            (None, "served"),
        ):
            route = chat.route("x", mixture=what)
            assert (route.model, route.exact, dict(route.fields)) == (model, True, {})
        both = Mixture({"math": 0.5, "code": 0.5})
        route = chat.router.route(Request("x"), Fixed(both))
        assert (route.model, route.expert) == ("t2-nano:math=0.5+code=0.5", None)
        assert chat.route(MATH).model == "t2-nano:math"
        with pytest.raises(ExpertNotFoundError, match="Did you mean 'math'"):
            chat.route("x", expert="maths")


def test_engines_that_there_are_none() -> None:
    with pytest.raises(ConfigError, match="engine is 'tgi'; give 'models', 'mixtures'"):
        ChatT2Remote("t2-nano", engine="tgi")
