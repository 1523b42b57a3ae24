"""The fields of ChatT2Remote, and options of one call."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx
from langchain_core.language_models import BaseChatModel
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, ValidationError

from t2agent.chat.remote.endpoint import Access
from t2agent.chat.remote.routing import Router, check_dispatch
from t2agent.chat.settings import CHOICE, LANGCHAIN, choice_of
from t2agent.engine.reply_form import FIELDS
from t2agent.engine.two_passes import Choice
from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry
from t2agent.images import AllowedUrls, ImagePolicy
from t2agent.models.options import GenerationOptions

URL = "http://localhost:8000/v1"
"""Where `vllm serve` listens by default."""
URL_VARIABLE = "T2AGENT_REMOTE_URL"
KEY_VARIABLE = "T2AGENT_REMOTE_API_KEY"

_CHECKED = ("max_tokens", "temperature", "top_p", "seed")
_PASSED = ("logprobs", "top_logprobs")
_SECRET = frozenset({"api_key", "default_headers"})
_PATHS = ("/chat/completions", "/completions", "/models")
_OWN = frozenset({"model", "messages", "stream", "stream_options", "tools", "tool_choice"})


class RemoteSettings(BaseChatModel):
    """Everything is checked when an object is made, but the endpoint is not asked.

    Raises ConfigError for options out of range and an address that is none.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True)

    model: str = "t2-nano"
    """The base model's name, as its experts know it. The endpoint may call it otherwise: see
    ``served``."""
    base_url: str | None = None
    """The API's address, which usually ends in /v1; None for ``$T2AGENT_REMOTE_URL``, else
    http://localhost:8000/v1. An address without a path gets /v1."""
    api_key: SecretStr | None = None
    """Sent as a bearer token; None for ``$T2AGENT_REMOTE_API_KEY``, and where there is none, no
    key is sent."""
    dispatch: Any = "embedding"
    """"embedding", "off" (or None: the base model), or a Dispatcher."""
    experts: Any = None
    """As of ChatT2."""
    expert: Any = None
    """One that answers all requests, instead of dispatch."""
    served: Mapping[str, str] | None = None
    """Expert -> its name at the endpoint; the base model's name may be a key, too. Then no other
    expert is chosen. None: the endpoint is asked once what it serves, and experts have their own
    names there."""
    registry: Registry | None = None
    """The experts; None for all of the base model's."""
    temperature: float | None = 0.0
    max_tokens: int | None = 256
    top_p: float | None = 1.0
    """These three as of ChatT2; None leaves them to the endpoint."""
    stop: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    seed: int | None = None
    logprobs: bool | None = None
    """Whether response_metadata tells in "logprobs" how likely each token was."""
    top_logprobs: int | None = None
    extra_body: Mapping[str, Any] | None = None
    """Further fields of the request, such as vLLM's {"top_k": 20, "repetition_penalty": 1.1}."""
    default_headers: Mapping[str, str] | None = Field(default=None, repr=False)
    """Further headers of each request."""
    timeout: Any = 600.0
    """Seconds to wait for the endpoint to send something more, an httpx.Timeout, or None."""
    max_retries: int = 2
    """How often a request is repeated after failures that pass: no connection, 408, 409, 429, and
    5xx. The wait is what Retry-After says, up to a minute, else doubles from half a second."""
    stream_usage: bool = True
    """Whether streams ask for the usage (stream_options), which a few endpoints do not know."""
    allow_image_urls: AllowedUrls = False
    """Whether images are fetched, here, from http(s) addresses that a message names: False, True,
    or the hosts, as of `ImagePolicy`. True lets a message reach the own network."""
    allow_image_files: bool = False
    """Whether images are read from paths that a message names."""
    streaming: bool = False
    """Whether `invoke` streams inside, for callbacks that want to see each piece."""
    http_client: httpx.Client | None = Field(default=None, exclude=True, repr=False)
    """One's own client, as for a proxy or certificates; its timeouts hold then."""
    http_async_client: httpx.AsyncClient | None = Field(default=None, exclude=True, repr=False)

    router: Router = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """What chooses; made from the fields above. LangChain's configurable fields make a copy of
    this object for each call, which takes it over."""

    def __init__(self, model: str = "t2-nano", **fields: Any) -> None:
        try:
            super().__init__(**{"model": model, **fields})
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"])) or type(self).__name__
            got = "" if _SECRET & set(wrong["loc"]) else f"; got {wrong.get('input')!r:.80}"
            raise ConfigError(f"{name}: {wrong['msg']}{got}") from None
        if "://" in self.model:
            raise ConfigError(
                f"model is the address {self.model!r:.100}; give the base model's name, and the "
                "endpoint's address as base_url"
            )
        self._options(None, {})
        check_dispatch(self.dispatch)
        made_of = (self._access(), self.model, self.registry, self.experts, self.served)
        known: Router | None = self.router
        if known is None or not known.serves(*made_of):
            self.router = Router(*made_of)

    def __deepcopy__(self, memo: Any = None) -> Self:
        return self.model_copy()  # what is shared does not depend on the fields

    def __reduce__(self) -> tuple[Any, ...]:
        """The fields that were given; with the key, where it was given as one."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name != "router"}
        return _made_again, (type(self), given)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    @property
    def lc_secrets(self) -> builtins.dict[str, str]:
        """Where a secret comes from."""
        return {"api_key": KEY_VARIABLE}

    @property
    def _policy(self) -> ImagePolicy:
        return ImagePolicy(allow_files=self.allow_image_files, allow_urls=self.allow_image_urls)

    def _access(self) -> Access:
        url = self.base_url or os.environ.get(URL_VARIABLE, "").strip() or URL
        if self.api_key is None and (key := os.environ.get(KEY_VARIABLE, "").strip()):
            self.api_key = SecretStr(key)
            self.model_fields_set.discard("api_key")  # it is the environment's: see __reduce__
        headers = dict(self.default_headers or {})
        _check_headers(headers, self.api_key)
        if isinstance(self.max_retries, bool) or self.max_retries < 0:
            raise ConfigError(f"max_retries is {self.max_retries!r}; give 0 or more")
        timeout = self.timeout
        if not (timeout is None or isinstance(timeout, httpx.Timeout)) and not (
            isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout > 0
        ):
            raise ConfigError(
                f"timeout is {timeout!r}; give seconds above 0, an httpx.Timeout or None"
            )
        return Access(
            url=_checked_url(url),
            key=self.api_key,
            headers=headers,
            timeout=timeout,
            retries=self.max_retries,
            client=self.http_client,
            async_client=self.http_async_client,
        )

    def _given_options(self) -> builtins.dict[str, Any]:
        """Options of all calls, for a cache's key."""
        names = (*_CHECKED, *_PASSED, "stop", "extra_body", "expert", "served")
        return {name: getattr(self, name) for name in names}

    def _options(
        self, stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> tuple[builtins.dict[str, Any], Choice, str | None]:
        """Of one call: fields of the request, who chooses the expert, and the model of the
        endpoint's that was named instead."""
        known = {*_CHECKED, *_PASSED, *CHOICE, *FIELDS, *LANGCHAIN, "model", "extra_body"}
        if unknown := sorted(set(given) - known):
            raise ConfigError(
                f"unknown option(s) {', '.join(unknown)}: a call takes stop, model, "
                f"{', '.join((*_CHECKED, *_PASSED, *CHOICE))}, and whatever else the endpoint "
                "knows in extra_body"
            )
        stops = self.stop if stop is None else stop
        stops = [stops] if isinstance(stops, str) else stops
        own = {name: given.get(name, getattr(self, name)) for name in (*_CHECKED, *_PASSED)}
        body = {name: value for name, value in own.items() if value is not None}
        checked = {name: body[name] for name in _CHECKED if name in body}
        if found := GenerationOptions(**checked, stop=stops or ()).stop:  # type: ignore[arg-type]
            body["stop"] = list(found)
        extra = given.get("extra_body", self.extra_body) or {}
        if not isinstance(extra, Mapping) or _OWN & set(extra):
            raise ConfigError(
                f"extra_body is {extra!r:.80}; give a dict of further fields, none of them one of "
                f"{', '.join(sorted(_OWN))}, for which there are options"
            )
        model = given.get("model")
        if model is not None and not isinstance(model, str):
            raise ConfigError(f"model is {model!r:.80}; give the name of a model of the endpoint")
        if model == self.model:
            model = None
        if model is not None and (named := [name for name in CHOICE if name in given]):
            raise ConfigError(f"model and {' and '.join(named)} were given: give one of them")
        choice = choice_of(given, self.expert)
        return {**body, **extra}, self.dispatch if choice is None else choice, model


def _made_again(kind: type[RemoteSettings], fields: dict[str, Any]) -> RemoteSettings:
    return kind(**fields)


def _checked_url(given: str) -> str:
    """An address of an API, without a slash at its end or the path of one of its methods."""
    try:
        url = httpx.URL(given.strip())
    except (httpx.InvalidURL, TypeError, ValueError) as error:
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
            f"base_url is {given!r:.100}; give an http(s) address such as {URL}, without '?' or '#'"
        )
    path = url.path.rstrip("/")
    for end in _PATHS:
        path = path.removesuffix(end)
    return str(url.copy_with(path=path or "/v1"))


def _check_headers(headers: Mapping[str, str], key: SecretStr | None) -> None:
    """Refuse what no header can hold, without showing it."""
    values = [*headers, *headers.values(), "" if key is None else key.get_secret_value()]
    if not all(text.isascii() and text.isprintable() for text in values):
        raise ConfigError(
            "api_key or default_headers hold characters that no HTTP header can (line ends, or "
            "others than ASCII); give the key as it was issued"
        )
