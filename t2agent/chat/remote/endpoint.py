"""An OpenAI-compatible endpoint, asked through langchain-openai (the extra ``remote``).

What the library does not do is here: nothing of the environment is sent, a slow endpoint is not
asked twice, and failures are errors that say what to do next.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PureWindowsPath
from typing import Any, TypeVar

import httpx2
import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import SecretStr

from t2agent.chat.remote.replies import Exchange, objects
from t2agent.errors import ConfigError, ContextLengthError, EndpointError, T2Error

_COMPLETIONS = "/chat/completions"
_MODELS = "/models"
_ADAPTERS = "/lora-adapters"
_PATHS = (_COMPLETIONS, "/completions", _MODELS)
_UNLISTED = frozenset({404, 405, 501})  # what endpoints without a list of models answer
_CONNECT_SECONDS = 10.0
_SHOWN = 500  # characters of an endpoint's own words
_NEXT = {
    400: "change the request",
    401: "give a key that the endpoint knows, as api_key or in T2AGENT_REMOTE_API_KEY",
    403: "give a key that may do this, as api_key or in T2AGENT_REMOTE_API_KEY",
    404: "see that base_url ends in /v1 and that the endpoint serves this model",
    408: "try again, or give it less to do",
    413: "send less, such as smaller images",
    422: "change the request",
    429: "ask less at a time, or raise max_retries",
}
_NOT_OPENAI = "see that base_url is that of an OpenAI-compatible API, usually ending in /v1"

Body = Mapping[str, Any]
A = TypeVar("A")


@dataclass(kw_only=True)
class Endpoint:
    """Where an endpoint is and how it is asked; fields as of `ChatT2Remote`.

    Failures that pass (no connection, 429, 5xx and the like) are tried again; a stream only before
    its first piece. What takes longer than the timeout is not: it would only be asked for twice.
    All methods may be called from any thread and event loop.

    Raises ConfigError for an address that is none, and options out of range; and, in every method
    that asks, EndpointError for any failure of the endpoint's, ConfigError for a request that is
    no JSON, ContextLengthError for a prompt that it refuses as too long.
    """

    url: str
    key: SecretStr | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: Any = 600.0
    retries: int = 2
    client: Any = field(default=None, repr=False)
    async_client: Any = field(default=None, repr=False)
    # A connection belongs to the event loop that opened it.
    _by_loop: weakref.WeakKeyDictionary[Any, openai.AsyncOpenAI] = field(
        init=False, repr=False, compare=False, default_factory=weakref.WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        self.url = _checked_url(self.url)
        values = [*self.headers, *self.headers.values(), self._secret]
        if not all(text.isascii() and text.isprintable() for text in values):
            raise ConfigError(
                "api_key or default_headers hold characters that no HTTP header can (line ends, "
                "or others than ASCII); give the key as it was issued"
            )
        if isinstance(self.retries, bool) or self.retries < 0:
            raise ConfigError(f"max_retries is {self.retries!r}; give 0 or more")
        seconds = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if seconds and self.timeout > 0:
            connect = min(self.timeout, _CONNECT_SECONDS)
            self.timeout = httpx2.Timeout(self.timeout, connect=connect)
        elif self.timeout is not None and not hasattr(self.timeout, "as_dict"):
            raise ConfigError(
                f"timeout is {self.timeout!r}; give seconds above 0, an httpx.Timeout or None"
            )

        for given, kind in ((self.client, "Client"), (self.async_client, "AsyncClient")):
            if given is not None and kind not in [one.__name__ for one in type(given).__mro__]:
                raise ConfigError(
                    f"{given!r:.80} was given where the {kind} of httpx or httpx2 is needed: see "
                    "http_client and http_async_client"
                )

    def models(self) -> list[Mapping[str, Any]] | None:
        """What /models lists, each with its "id"; None where the endpoint keeps no such list."""
        listed = self._asked(self.url + _MODELS, lambda found: found.get("data"))
        if not isinstance(listed, list):
            return None
        return [one for one in objects(listed) if isinstance(one.get("id"), str)]

    def adapters(self) -> dict[str, int]:
        """The LoRA adapters that llama.cpp's server has: the stem of the file's name -> its number.

        Of several files of one name, the first."""
        url = self.url.removesuffix("/v1") + _ADAPTERS
        found: dict[str, int] = {}
        for one in self._asked(url, objects) or []:
            path, number = one.get("path"), one.get("id")
            if isinstance(path, str) and isinstance(number, int):
                found.setdefault(PureWindowsPath(path).stem, number)  # takes both kinds of slashes
        return found

    def _asked(self, url: str, read: Callable[[Any], A]) -> A | None:
        """What is read of the JSON at an address; None where there is none of that path."""
        try:
            with self._failures(url):
                headers = self._headers(self._sync)
                answer: Any = self._sync.get(url, cast_to=object, options={"headers": headers})
                return read(json.loads(answer) if isinstance(answer, str) else answer)
        except EndpointError as error:
            if error.status in _UNLISTED:
                return None
            raise

    def complete(self, body: Body) -> ChatResult:
        """A whole completion."""
        exchange = self._exchange(body, self._sync)
        with self._failures():
            return exchange._generate([])

    async def acomplete(self, body: Body) -> ChatResult:
        """As `complete`."""
        exchange = self._exchange(body, self._async)
        with self._failures():
            return await exchange._agenerate([])

    def stream(self, body: Body, *, usage: bool) -> Iterator[ChatGenerationChunk]:
        """The chunks of a completion; the last one holds the usage and what else the endpoint
        told. Closing the iterator ends the request."""
        exchange = self._exchange(body, self._sync)
        with self._failures():
            yield from exchange._stream([], stream_usage=usage)
            yield exchange.last()

    async def astream(
        self, body: Body, *, usage: bool
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """As `stream`."""
        exchange = self._exchange(body, self._async)
        pieces: Any = exchange._astream([], stream_usage=usage)
        with self._failures():
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
            yield exchange.last()

    @cached_property
    def _sync(self) -> openai.OpenAI:
        client = self.client
        if client is None:
            client = _Client(follow_redirects=False)
            weakref.finalize(self, client.close)
        return openai.OpenAI(**self._access(self.client), http_client=client)

    @property
    def _async(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            given = self.async_client
            client = given or _AsyncClient(follow_redirects=False)
            self._by_loop[loop] = openai.AsyncOpenAI(**self._access(given), http_client=client)
        return self._by_loop[loop]

    def _access(self, given: Any) -> dict[str, Any]:
        """The library's options. Its key is not ours, which `_headers` sends, nor any of the
        environment's, which it would look for."""
        timeout = self.timeout if given is None else given.timeout
        retries = self.retries
        return {"api_key": "none", "base_url": self.url, "timeout": timeout, "max_retries": retries}

    def _exchange(self, body: Body, client: openai.OpenAI | openai.AsyncOpenAI) -> Exchange:
        """Of one request, in which the library need not know all of a body's fields."""
        try:
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"the request is no JSON ({error}): give options of strings that are Unicode, "
                "finite numbers, lists and dicts"
            ) from error
        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        request = {
            "model": body["model"],
            "messages": body["messages"],
            "extra_body": rest,
            "extra_headers": self._headers(client),
        }
        return Exchange(request, client.chat.completions, self.url)

    def _headers(self, client: openai.OpenAI | openai.AsyncOpenAI) -> dict[str, Any]:
        """Those of a request. What the library says of this machine and, as the environment tells
        it to, of another account is left out."""
        counts = ("X-Stainless-Retry-Count", "X-Stainless-Read-Timeout")
        return {
            **dict.fromkeys((*client.default_headers, *counts), openai.Omit()),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "t2agent",
            "Authorization": f"Bearer {self._secret}" if self._secret else openai.Omit(),
            **self.headers,
        }

    @property
    def _secret(self) -> str:
        return "" if self.key is None else self.key.get_secret_value()

    @contextmanager
    def _failures(self, url: str | None = None) -> Iterator[None]:
        """Turn what the library raises into errors of ours. The library's own may show the key,
        where an endpoint repeats it; so none that holds an endpoint's words is their cause."""
        url = url or self.url + _COMPLETIONS
        try:
            yield
        except T2Error:
            raise
        except openai.APIStatusError as error:
            raise self._refused(error, url) from None
        except openai.APIConnectionError as error:
            raise _unreachable(error, url) from error
        except openai.APIError as error:  # instead of an answer, or in the midst of one
            said = self._words(error.body)
            raise EndpointError(
                f"{url} broke its answer off: {said} - see the endpoint's log, or try again"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            said = self._words(error.doc if isinstance(error, json.JSONDecodeError) else str(error))
            raise EndpointError(f"{url} sent no answer ({said[:160]}): {_NOT_OPENAI}") from error

    def _refused(self, error: openai.APIStatusError, url: str) -> T2Error:
        """The error that a failed answer means."""
        status, answer, said = error.status_code, error.response, self._words(error.body)
        told = json.dumps(error.body).lower()
        # As OpenAI (a code), vLLM and others (in words) say it.
        known = "context_length_exceeded" in told or "maximum context length" in told
        if status in (400, 413, 422) and (known or isinstance(error, ContextOverflowError)):
            return ContextLengthError(
                f"{url} refused the prompt: {said} Shorten the conversation, or ask for fewer "
                "tokens (max_tokens)"
            )
        follow = _NEXT.get(status, "see the endpoint's log, or try again later")
        if answer.is_redirect:
            where = answer.headers.get("location")
            follow = f"give base_url the address that it points to, {where!r}"
        if (asked := answer.headers.get("retry-after", "")).isdigit() and int(asked):
            follow = f"try again in {asked} s, as it asks"
        return EndpointError(
            f"{url} answered {status} {answer.reason_phrase}: {said or 'nothing more'} - {follow}",
            status=status,
        )

    def _words(self, found: object) -> str:
        """What an endpoint says in the body of an error, on one line."""
        while isinstance(found, Mapping):
            known = (found[name] for name in ("error", "message", "detail") if found.get(name))
            found = next(known, json.dumps(found))
        said = found if isinstance(found, str) else "" if found is None else json.dumps(found)
        said = " ".join(said.split())
        if self._secret:
            said = said.replace(self._secret, "***")
        return said if len(said) <= _SHOWN else said[:_SHOWN] + "..."


class _Client(openai.DefaultHttpxClient):
    """The library repeats a request that took too long; but not an error of its own."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            return super().send(request, **options)
        except (httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            raise openai.APITimeoutError(request) from error


class _AsyncClient(openai.DefaultAsyncHttpxClient):
    """As `_Client`."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            return await super().send(request, **options)
        except (httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            raise openai.APITimeoutError(request) from error


def _unreachable(error: openai.APIConnectionError, url: str) -> EndpointError:
    """The error for an answer that did not come, or not whole."""
    cause: BaseException = error
    while isinstance(cause, openai.APIError) and cause.__cause__ is not None:
        cause = cause.__cause__
    told = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    follow = "see that the endpoint runs there, and that base_url is right"
    if isinstance(error, openai.APITimeoutError) and "Connect" not in told:
        follow = "give it more time (timeout), or less to do (max_tokens)"
    return EndpointError(f"no whole answer came from {url} ({told}): {follow}")


def _checked_url(given: str) -> str:
    """An address of an API, without a slash at its end or the path of one of its methods."""
    try:
        url = httpx2.URL(given.strip())
    except (httpx2.InvalidURL, TypeError, ValueError) as error:
        raise ConfigError(
            f"base_url is no address ({error}); give one such as http://localhost:8000/v1"
        ) from error
    if url.userinfo:
        raise ConfigError(
            "base_url holds a user's name or password, which errors would show; give api_key or "
            "default_headers instead"
        )
    bare = not (url.query or url.fragment or any(map(str.isspace, given.strip())))
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535 or not bare:
        raise ConfigError(
            f"base_url is {given!r:.100}; give an http(s) address such as "
            "http://localhost:8000/v1, without '?' or '#'"
        )
    path = url.path.rstrip("/")
    for end in _PATHS:
        path = path.removesuffix(end)
    return str(url.copy_with(path=path or "/v1"))
