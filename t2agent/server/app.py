"""The application: routes, keys and limits."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import FastAPI
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from t2agent.dispatch.encoder import Encoder
from t2agent.errors import T2Error
from t2agent.models.prompt import as_unicode, encode
from t2agent.replies.messages import function_tools
from t2agent.server import experts
from t2agent.server.chat import Completions, Limits, Reply, Stream
from t2agent.server.failures import RefusedError
from t2agent.server.metrics import CONTENT_TYPE, Metrics
from t2agent.server.playground import playground
from t2agent.server.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingsRequest,
    ExpertRequest,
    TokenizeRequest,
    read_body,
    read_conversation,
)
from t2agent.server.responses import Responses, ResponsesRequest
from t2agent.server.served import Served
from t2agent.server.systemone import SystemOneRequest, systemone

OPEN = "/health"
"""The one route that answers without a key."""
_FOREIGN = ("cross-site", "same-site")
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_LOG = logging.getLogger("t2agent.server")


@dataclass(frozen=True)
class ServerOptions:
    """What a server allows.

    key: what requests must bring, as a bearer token or as the password of HTTP Basic (so that a
        browser can open the page); None for none. admin_key: what registering experts needs; None
        forbids it. body: bytes of a request at most. grace: seconds for what runs when the server
        stops.
    """

    key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    body: int = 32 << 20
    limits: Limits = field(default_factory=Limits)
    grace: float = 30.0


def make_app(served: Served, options: ServerOptions | None = None) -> FastAPI:
    """The server's ASGI application. Stopping it finishes the replies that run."""
    options = ServerOptions() if options is None else options
    metrics = Metrics(served)
    completions = Completions(served, metrics, options.limits)
    responses = Responses(completions)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(served.close, options.grace)

    app = FastAPI(
        title="t2agent",
        version=version("t2agent"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.served = served

    def refusal(error: BaseException) -> JSONResponse:
        found = RefusedError.of(error)
        if found.status >= 500:
            _LOG.error("a request failed", exc_info=error)
        metrics.refused(found.code)
        return JSONResponse(found.body(), found.status, found.headers)

    async def on_error(_request: Request, error: Exception) -> Response:
        return refusal(error)

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        where = f"{request.method} {request.url.path}"
        told = (
            f"{where}: {error.detail}; GET / shows what there is"
            if error.status_code == 404
            else where
        )
        return refusal(RefusedError(error.status_code, told, "not_found"))

    for kind in (T2Error, RefusedError, Exception):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(HTTPException, on_status)
    app.add_middleware(_Guard, options=options, refusal=refusal)

    async def sent(found: Reply | Stream, kinds: bool = False) -> Response:
        if isinstance(found, Reply):
            return JSONResponse(found.body, headers=dict(found.headers))
        events = _events(found.events, kinds=kinds)
        return EventSourceResponse(events, headers=dict(found.headers), sep="\n", ping=15)

    @app.get(OPEN)
    async def health() -> dict[str, Any]:
        return {"status": "ok", "models": list(served.bases)}

    @app.get("/metrics")
    async def metrics_() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/")
    async def page() -> HTMLResponse:
        return playground()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": await run_in_threadpool(served.listed)}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        listed = await run_in_threadpool(served.listed)
        if found := next((one for one in listed if one["id"] == name), None):
            return found
        base, _ = served.find(name)  # a mixture, or an error
        own = next(one for one in listed if one["id"] == base.name)
        return {**own, "id": name, "parent": base.name}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = read_body(ChatRequest, await _json(request))
        return await sent(await completions.chat(request, body))

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = read_body(CompletionRequest, await _json(request))
        return await sent(await completions.complete(request, body))

    @app.post("/v1/responses")
    async def respond(request: Request) -> Response:
        body = read_body(ResponsesRequest, await _json(request))
        return await sent(await responses.respond(request, body), kinds=True)

    @app.post("/v1/systemone")
    async def decide(request: Request) -> dict[str, Any]:
        body = SystemOneRequest.read(await _json(request))
        base, choice = served.find(body.model)
        name = body.model or base.name
        work = partial(systemone, request=body, model=name, choice=choice)
        return await run_in_threadpool(base.scheduler.run, base.engine, work)

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> dict[str, Any]:
        body = read_body(EmbeddingsRequest, await _json(request))
        return await run_in_threadpool(_embedded, body)

    @app.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        body = read_body(TokenizeRequest, await _json(request))
        return await run_in_threadpool(_tokenized, served, body)

    @app.post("/detokenize")
    async def detokenize(request: Request) -> dict[str, Any]:
        body = read_body(DetokenizeRequest, await _json(request))
        return await run_in_threadpool(_detokenized, served, body)

    @app.get("/v1/experts")
    async def list_experts() -> dict[str, Any]:
        return {"object": "list", "data": await run_in_threadpool(experts.listed, served)}

    @app.post("/v1/experts")
    async def add_expert(request: Request) -> dict[str, Any]:
        body = read_body(ExpertRequest, await _json(request))
        return await run_in_threadpool(experts.register, served, body)

    @app.delete("/v1/experts/{name:path}")
    async def remove_expert(name: str) -> dict[str, Any]:
        return await run_in_threadpool(experts.remove, served, name)

    @app.get("/v1/experts/{name}/curve.png")
    async def curve(name: str, model: str | None = None) -> Response:
        base, _ = served.find(model)
        if (place := experts.curve(base, name)) is None:
            raise RefusedError(404, f"expert {name!r} has no curve of its training", "not_found")
        return FileResponse(place, media_type="image/png")

    @app.get("/v1/experts/{name}/diff")
    async def difference(
        name: str, model: str | None = None, other: str | None = None
    ) -> dict[str, Any]:
        base, _ = served.find(model)
        return await run_in_threadpool(experts.difference, base, name, other)

    return app


async def _json(request: Request) -> Any:
    data = await request.body()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}", "invalid_json") from error


async def _events(events: AsyncIterator[str], *, kinds: bool) -> AsyncIterator[dict[str, str]]:
    """The events of a stream; what goes wrong on the way is its last.

    kinds: whether each is named by the "type" of its data.
    """
    try:
        async for data in events:
            yield {"event": json.loads(data)["type"], "data": data} if kinds else {"data": data}
    except Exception as error:  # noqa: BLE001 - the head of the reply is sent already
        found = RefusedError.of(error)
        if found.status >= 500:
            _LOG.error("a stream failed", exc_info=error)
        body = json.dumps(found.body())
        yield {"event": "error", "data": body} if kinds else {"data": body}


def _embedded(body: EmbeddingsRequest) -> dict[str, Any]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts or not all(texts):
        told = "input is empty; give a text, or several, none of them empty"
        raise RefusedError(400, told, "invalid_value", "input")
    encoder = Encoder.shared()
    if body.dimensions not in (None, encoder.dimension):
        told = f"dimensions is {body.dimensions}; the encoder has {encoder.dimension}"
        raise RefusedError(400, told, "invalid_value", "dimensions")
    if body.encoding_format not in ("float", "base64"):
        told = f"encoding_format is {body.encoding_format!r:.40}; give 'float' or 'base64'"
        raise RefusedError(400, told, "invalid_value", "encoding_format")
    vectors = encoder.encode(texts)
    words = sum(len(text.split()) for text in texts)

    def written(vector: Any) -> Any:
        if body.encoding_format == "float":
            return vector.tolist()
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()

    return {
        "object": "list",
        "model": encoder.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": written(vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


def _tokenized(served: Served, body: TokenizeRequest) -> dict[str, Any]:
    base, _ = served.find(body.model)
    model = base.model
    if (body.prompt is None) == (body.messages is None):
        raise RefusedError(400, "give prompt or messages, one of them", "invalid_value", "prompt")
    if body.messages is not None:
        prompt = read_conversation(body.messages)
        tools = function_tools(body.tools or ())
        asked = type(prompt)(prompt.messages, prompt.images, tools)
        tokens = encode(model, [asked])["input_ids"][0].tolist()
    else:
        text = as_unicode(body.prompt or "")
        with model.tokenizer_lock:
            tokens = list(
                model.tokenizer(text, add_special_tokens=body.add_special_tokens)["input_ids"]
            )
    return {
        "tokens": tokens,
        "token_strs": model.tokenizer.convert_ids_to_tokens(tokens),
        "count": len(tokens),
        "max_model_len": model.context_length,
    }


def _detokenized(served: Served, body: DetokenizeRequest) -> dict[str, Any]:
    base, _ = served.find(body.model)
    known = len(base.model.tokenizer)
    if unknown := [token for token in body.tokens if token >= known]:
        told = f"{base.name} has {known} tokens, and there is none of number {unknown[0]}"
        raise RefusedError(400, told, "invalid_value", "tokens")
    with base.model.tokenizer_lock:
        return {"prompt": base.model.tokenizer.decode(body.tokens)}


class _Guard:
    """Refuses requests without a key, and bodies that are too large, before anything is read."""

    def __init__(
        self, app: Any, *, options: ServerOptions, refusal: Callable[[BaseException], Response]
    ) -> None:
        self._app, self._options, self._refusal = app, options, refusal

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        problem = self._problem(scope, headers)
        if problem is not None:
            await self._refusal(problem)(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _problem(self, scope: Any, headers: Mapping[str, str]) -> RefusedError | None:
        options = self._options
        # A browser sends the password that it knows whichever page asks; and without a key, a name
        # of somebody else's that leads here would let their page read what it asks.
        if scope["method"] not in ("GET", "HEAD") and headers.get("sec-fetch-site") in _FOREIGN:
            told = "a page of another site asked this; only the server's own page may"
            return RefusedError(403, told, "cross_site")
        host = re.sub(r":\d+$", "", headers.get("host", ""))
        if options.key is None and host not in _LOCAL:
            names = ", ".join(_LOCAL)
            told = f"without a key only requests to {names} are answered, not to {host!r:.60}"
            return RefusedError(403, told, "foreign_host")
        given = _key(headers.get("authorization", ""))
        admin = scope["path"].startswith("/v1/experts") and scope["method"] != "GET"
        if admin:
            if options.admin_key is None:
                told = "experts are not registered here: start the server with --admin-key"
                return RefusedError(403, told, "forbidden")
            if not _equal(given, options.admin_key):
                return RefusedError(401, "this needs the admin key", "invalid_api_key")
        elif options.key is not None and scope["path"] != OPEN:
            known = [options.key, *([options.admin_key] if options.admin_key else [])]
            if not any(_equal(given, one) for one in known):
                told = "the key is wrong" if given else "a key is needed"
                told += "; send it as Authorization: Bearer KEY"
                return RefusedError(401, told, "invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > options.body:
            return self._large()
        return None

    def _counted(self, receive: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The body's messages, of which too many bytes are refused."""
        left = self._options.body

        async def counted() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise self._large()
            return message

        return counted

    def _large(self) -> RefusedError:
        told = f"the body has more than {self._options.body >> 20} MiB; send less"
        return RefusedError(413, told, "body_too_large")


def _key(authorization: str) -> str:
    """The key of a header: a bearer token, or the password of HTTP Basic."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def _equal(given: str, key: str) -> bool:
    return secrets.compare_digest(given.encode(), key.encode())
