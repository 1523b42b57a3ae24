"""An OpenAI-compatible endpoint: requests, answers and streams over HTTP, with retries."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from t2agent.chat.remote.events import EventReader
from t2agent.chat.remote.failures import pause, refused, unreachable, words
from t2agent.errors import ConfigError, EndpointError

_COMPLETIONS = "/chat/completions"
_MODELS = "/models"
DONE: Mapping[str, Any] = {}
"""The last piece of a stream that told of its end; not all endpoints do."""
_CONNECT_SECONDS = 10.0
_UNLISTED = frozenset({404, 405, 501})  # what endpoints without a list of models answer

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where an endpoint is and how it is asked; fields as of `ChatT2Remote`."""

    url: str
    key: SecretStr | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | httpx.Timeout | None = 600.0
    retries: int = 2
    client: httpx.Client | None = None
    async_client: httpx.AsyncClient | None = None

    def timeouts(self) -> httpx.Timeout:
        """Of a request: connecting takes ten seconds at most."""
        if self.timeout is None or isinstance(self.timeout, httpx.Timeout):
            return httpx.Timeout(self.timeout)
        return httpx.Timeout(self.timeout, connect=min(self.timeout, _CONNECT_SECONDS))


class Endpoint:
    """Asks an endpoint. All methods may be called from any thread and event loop.

    Failures that pass (no connection, 429, 5xx and the like) are tried again; a stream only before
    its first piece. What takes longer than the timeout is not: it would only be asked for twice.

    Raises, in every method that asks: EndpointError for any failure of the endpoint's, ConfigError
    for a request that is no JSON, ContextLengthError for a prompt that it refuses as too long.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._client = access.client
        # A connection belongs to the event loop that opened it.
        self._async: weakref.WeakKeyDictionary[Any, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Endpoint({self.access.url!r})"

    def models(self) -> list[Mapping[str, Any]] | None:
        """What /models lists, each with its "id"; None where the endpoint keeps no such list."""
        try:
            with self._answer("GET", _MODELS, None) as answer:
                found = self._json(answer)
        except EndpointError as error:
            if error.status in _UNLISTED:
                return None
            raise
        data = found.get("data")
        if not isinstance(data, list):
            return None
        return [one for one in data if isinstance(one, Mapping) and isinstance(one.get("id"), str)]

    def complete(self, body: Body) -> dict[str, Any]:
        """A whole completion."""
        with self._answer("POST", _COMPLETIONS, body) as answer:
            return self._json(answer)

    async def acomplete(self, body: Body) -> dict[str, Any]:
        """As `complete`."""
        async with self._aanswer("POST", _COMPLETIONS, body) as answer:
            return self._json(answer)

    def stream(self, body: Body) -> Iterator[Mapping[str, Any]]:
        """The pieces of a completion, `DONE` at last. Closing the iterator ends the request."""
        reader = EventReader()
        with self._answer("POST", _COMPLETIONS, body, stream=True) as answer:
            try:
                for part in answer.iter_bytes():
                    for piece in self._pieces(reader.push(part)):
                        yield piece
                        if piece is DONE:
                            return
            except httpx.HTTPError as error:
                raise unreachable(error, self.access.url + _COMPLETIONS) from error
            yield from self._pieces(reader.finish(), last=True)

    async def astream(self, body: Body) -> AsyncGenerator[Mapping[str, Any], None]:
        """As `stream`."""
        reader = EventReader()
        async with self._aanswer("POST", _COMPLETIONS, body, stream=True) as answer:
            try:
                async for part in answer.aiter_bytes():
                    for piece in self._pieces(reader.push(part)):
                        yield piece
                        if piece is DONE:
                            return
            except httpx.HTTPError as error:
                raise unreachable(error, self.access.url + _COMPLETIONS) from error
            for piece in self._pieces(reader.finish(), last=True):
                yield piece

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Body | None, *, stream: bool = False
    ) -> Iterator[httpx.Response]:
        """A good answer, its body read where it is no stream."""
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(timeout=self.access.timeouts())
                weakref.finalize(self, self._client.close)
        client, content = self._client, _encoded(body)
        for attempt in itertools.count():
            request = client.build_request(
                method, self.access.url + path, content=content, headers=self._headers(stream)
            )
            answer: httpx.Response | None = None
            try:
                answer = client.send(request, stream=True)
                if not (stream and answer.is_success):
                    answer.read()
            except httpx.HTTPError as error:
                if answer is not None:
                    answer.close()
                wait = self._pause(attempt, path, error)
            else:
                try:
                    if answer.is_success:
                        yield answer
                        return
                finally:
                    answer.close()
                wait = self._pause(attempt, path, answer)
            time.sleep(wait)

    @asynccontextmanager
    async def _aanswer(
        self, method: str, path: str, body: Body | None, *, stream: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """As `_answer`."""
        client, content = self._async_client(), _encoded(body)
        for attempt in itertools.count():
            request = client.build_request(
                method, self.access.url + path, content=content, headers=self._headers(stream)
            )
            answer: httpx.Response | None = None
            try:
                answer = await client.send(request, stream=True)
                if not (stream and answer.is_success):
                    await answer.aread()
            except httpx.HTTPError as error:
                if answer is not None:
                    await answer.aclose()
                wait = self._pause(attempt, path, error)
            else:
                try:
                    if answer.is_success:
                        yield answer
                        return
                finally:
                    await answer.aclose()
                wait = self._pause(attempt, path, answer)
            await asyncio.sleep(wait)

    def _pause(self, attempt: int, path: str, failed: httpx.Response | httpx.HTTPError) -> float:
        """Seconds until the next attempt. Raises where there is to be none."""
        url = self.access.url + path
        answer = failed if isinstance(failed, httpx.Response) else None
        wait = pause(attempt, answer)
        again = attempt < self.access.retries and wait is not None
        if isinstance(failed, httpx.Response):
            if not again:
                raise refused(failed, url, self._secret)
        elif not again or not _passes(failed):
            raise unreachable(failed, url) from failed
        assert wait is not None
        return wait

    def _async_client(self) -> httpx.AsyncClient:
        if self.access.async_client is not None:
            return self.access.async_client
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._async:
                self._async[loop] = httpx.AsyncClient(timeout=self.access.timeouts())
            return self._async[loop]

    @property
    def _secret(self) -> str | None:
        return None if self.access.key is None else self.access.key.get_secret_value()

    def _headers(self, stream: bool) -> dict[str, str]:
        accepted = "text/event-stream" if stream else "application/json"
        own = {"Accept": accepted, "Content-Type": "application/json", "User-Agent": "t2agent"}
        if self._secret:
            own["Authorization"] = f"Bearer {self._secret}"
        return {**own, **self.access.headers}

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        return self._object(answer.content, str(answer.url))

    def _pieces(self, events: Iterable[str], *, last: bool = False) -> Iterator[Mapping[str, Any]]:
        """What events hold. last: the stream has ended, maybe in the midst of one, which is then
        left out."""
        for data in events:
            if data.strip() == "[DONE]":
                yield DONE
            elif not (last and _is_cut(data)):
                yield self._object(data.encode(), self.access.url + _COMPLETIONS)

    def _object(self, body: bytes, url: str) -> dict[str, Any]:
        """The JSON object of a body, if it does not tell of an error."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise EndpointError(
                f"{url} sent what is no JSON ({words(body, self._secret)[:80]!r}): see that "
                "base_url is that of an OpenAI-compatible API, usually ending in /v1"
            ) from error
        if not isinstance(found, dict):
            raise EndpointError(
                f"{url} sent JSON that is no object ({words(body, self._secret)[:80]!r}): see that "
                "base_url is that of an OpenAI-compatible API"
            )
        if found.get("error") or found.get("object") == "error":
            raise EndpointError(
                f"{url} broke its answer off: {words(body, self._secret)} - see the endpoint's "
                "log, or try again"
            )
        return found


def _encoded(body: Body | None) -> bytes | None:
    if body is None:
        return None
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            "the request holds text that is not Unicode (half of a surrogate pair): mend it where "
            'it was read, or with text.encode(errors="replace").decode()'
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the request is no JSON ({error}): give options of strings, finite numbers, lists "
            "and dicts"
        ) from error


def _is_cut(data: str) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return True
    return False


def _passes(error: httpx.HTTPError) -> bool:
    """Whether the same request may do better: not where the endpoint took its whole time."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return isinstance(error, httpx.TransportError) and not isinstance(
        error, httpx.TimeoutException | httpx.UnsupportedProtocol | httpx.ProxyError
    )
