"""ChatT2Remote: the dispatcher here, the model and its experts at an endpoint."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, ValidationError

from t2agent.chat.images import ReadsImages
from t2agent.chat.messages import to_openai
from t2agent.chat.misfits import Misfits
from t2agent.chat.remote.routing import Route, Router, check_dispatch
from t2agent.chat.settings import CHOICE, LANGCHAIN, choice_of, digests
from t2agent.chat.tool_calling import Binding
from t2agent.dispatch import Request
from t2agent.engine.reply_form import FIELDS, ReplyForm
from t2agent.engine.two_passes import Choice, last_request
from t2agent.errors import ConfigError, EndpointError
from t2agent.experts.registry import Registry
from t2agent.models.installed import AUTO, named
from t2agent.models.options import GenerationOptions
from t2agent.replies.parsing import Call

URL = "http://localhost:8000/v1"
"""Where `vllm serve` listens by default."""
URL_VARIABLE = "T2AGENT_REMOTE_URL"
KEY_VARIABLE = "T2AGENT_REMOTE_API_KEY"

_CHECKED = ("max_tokens", "temperature", "top_p", "seed")
_PASSED = ("logprobs", "top_logprobs")
_SECRET = frozenset({"api_key", "default_headers"})
_OWN = frozenset({"model", "messages", "stream", "stream_options", "tools", "tool_choice", "lora"})
_MISSING = 404  # how an endpoint says that it does not serve a model


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: its body without the model, and all that decides on the model."""

    body: Mapping[str, Any]
    form: ReplyForm
    request: Request
    choice: Choice
    model: str | None
    usage: bool

    def to(self, route: Route) -> dict[str, Any]:
        """The body of the request to the model of a route."""
        return {"model": route.model, **route.fields, **self.body}


class ChatT2Remote(ReadsImages, Binding):
    """A chat model that chooses an expert for each request and has an endpoint answer with it.

        chat = ChatT2Remote("Qwen/Qwen2.5-0.5B-Instruct", base_url="http://localhost:8000/v1")
        reply = chat.invoke("What is 7 * 3 + 12?")
        reply.response_metadata["dispatch"]   # as of ChatT2
        reply.response_metadata["served"]     # {"model": "math", "expert": "math", "exact": True}

    The endpoint speaks OpenAI's chat completions and serves each expert as a model of its own, as
    vLLM does with one LoRA an expert: see docs/SERVING.md. Here there are only the experts' cards
    and the sentence encoder; nothing of the base model is loaded. An expert is chosen as by
    `ChatT2`, among those that the endpoint serves; out of scope, the base model answers. Requests
    go through langchain-openai: ``pip install 't2agent[remote]'``.

    Such an endpoint adds one expert to a request, with weight 1. Where a dispatcher wants several,
    the one with the greatest weight answers, and ``served["exact"]`` is False. llama.cpp's server,
    which is known by its list of models, and vLLM with t2agent's plugin (``engine="mixtures"``)
    answer with mixtures of whole experts.

    Options of one call, or of `.bind(...)`: ``stop``, ``max_tokens``, ``temperature``, ``top_p``,
    ``seed``, ``logprobs``, ``top_logprobs``, ``extra_body``; one of ``expert`` (a name or an
    Expert), ``mixture`` (such as the endpoint can answer with) and ``dispatch`` ("embedding", "off"
    or a Dispatcher); or ``model``, a model of the endpoint's, which then answers. Tools and
    structured output are as of `ChatT2`. While a reply is decoded, that it keeps to them is up to
    the endpoint; when it is finished it is checked here, and what does not fit is told as of
    `ChatT2`: in ``invalid_tool_calls``, or by GrammarError.

    `batch` asks for all at once, in threads (or tasks); the endpoint makes batches of it. Closing
    a stream, or cancelling a task, closes the connection, which ends the generation at vLLM.

    Everything is checked when an object is made, but the endpoint is not asked. Raises ConfigError
    for options out of range, an address that is none, and where langchain-openai is missing. When
    called: EndpointError where the endpoint cannot be reached, refuses or breaks off;
    ContextLengthError for a prompt that it says is too long; ExpertNotFoundError for an expert
    that it does not serve; ImageRefusedError, ModalityError and ConfigError as ChatT2.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", populate_by_name=True)

    model: str = AUTO
    """The base model's name, as its experts know it; "auto" as of ChatT2. The endpoint may call it
    otherwise: see ``served``."""
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
    engine: Any = None
    """How the endpoint is told who answers: "models" (each expert is a model of its own),
    "mixtures" (vLLM with t2agent's plugin: see docs/SERVING.md) or "llama.cpp". None: the last
    where the endpoint says so, else the first."""
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
    5xx. The wait is what Retry-After says, up to two minutes, else doubles from half a second."""
    stream_usage: bool = True
    """Whether streams ask for the usage (stream_options), which a few endpoints do not know."""
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """One's own client of httpx or httpx2, as for a proxy or certificates; its timeouts hold then,
    and a request that takes longer is repeated, too."""
    http_async_client: Any = Field(default=None, exclude=True, repr=False)

    router: Router = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """What chooses; made from the fields above. LangChain's configurable fields make a copy of
    this object for each call, which takes it over."""

    @property
    def _llm_type(self) -> str:
        return "t2agent-chat-remote"

    def __init__(self, model: str = AUTO, **fields: Any) -> None:
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
        self.model = named(self.model)
        self._options(None, {})
        check_dispatch(self.dispatch)
        made_of = (
            self._endpoint(),
            self.model,
            self.registry,
            self.experts,
            self.served,
            self.engine,
        )
        known: Router | None = self.router
        if known is None or not known.serves(*made_of):
            self.router = Router(*made_of)
        if self.profile is None:
            self.profile = ModelProfile(
                text_inputs=True,
                text_outputs=True,
                image_url_inputs=bool(self.allow_image_urls),
                tool_calling=True,
                tool_choice=True,
                tool_call_streaming=True,
            )

    def __deepcopy__(self, memo: Any = None) -> Self:
        return self.model_copy()  # what is shared does not depend on the fields

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """The fields that were given; with the key, where it was given as one."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name != "router"}
        return partial(type(self), **given), ()

    def route(self, input: LanguageModelInput, **options: Any) -> Route:  # noqa: A002 - as invoke
        """Who would answer, without asking for the answer; options as of a call.

        For clients of one's own: ``Route.model`` is what the endpoint calls the model.
        """
        return self._begun(self._convert_input(input).to_messages(), None, options)[1]

    def refresh(self) -> None:
        """Ask the endpoint anew which experts it serves: for those that were loaded since.

        An expert that is asked for by name, and a model that is gone, are noticed without it.
        """
        self.router.refresh()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        call, route = self._begun(messages, stop, kwargs)
        while True:
            reply = _Reply(route, Misfits(call.form))
            try:
                return reply.result(self.router.endpoint.complete(call.to(route)))
            except EndpointError as error:
                route = self._rerouted(call, route, error)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        call, route = await asyncio.to_thread(self._begun, messages, stop, kwargs)
        while True:
            reply = _Reply(route, Misfits(call.form))
            try:
                return reply.result(await self.router.endpoint.acomplete(call.to(route)))
            except EndpointError as error:
                route = await asyncio.to_thread(self._rerouted, call, route, error)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, route = self._begun(messages, stop, kwargs)
        while True:
            reply = _Reply(route, Misfits(call.form))
            try:
                for chunk in self.router.endpoint.stream(call.to(route), usage=call.usage):
                    yield from reply.pieces(chunk)
                return
            except EndpointError as error:
                route = self._rerouted(call, route, error)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, route = await asyncio.to_thread(self._begun, messages, stop, kwargs)
        while True:
            reply = _Reply(route, Misfits(call.form))
            chunks = self.router.endpoint.astream(call.to(route), usage=call.usage)
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        for piece in reply.pieces(chunk):
                            yield piece
                return
            except EndpointError as error:
                route = await asyncio.to_thread(self._rerouted, call, route, error)

    def _begun(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> tuple[_Call, Route]:
        form = ReplyForm.of(given)
        body, choice, model = self._options(stop, given)
        converted = to_openai(messages, self._policy)
        images = sum(
            part["type"] == "image_url"
            for message in converted
            if isinstance(message["content"], list)
            for part in message["content"]
        )
        body = {"messages": converted, **_form(form, given), **body}
        usage = bool(given.get("stream_usage", self.stream_usage))
        request = last_request(converted, images, form.tools, json=form.schema is not None)
        call = _Call(body, form, request, choice, model, usage)
        return call, self._routed(call)

    def _routed(self, call: _Call) -> Route:
        if call.model is not None:
            return self.router.named(call.model)
        return self.router.route(call.request, call.choice)

    def _rerouted(self, call: _Call, route: Route, error: EndpointError) -> Route:
        """The route to another model, where the endpoint has lost this one; else the error."""
        if error.status == _MISSING and self.router.refresh():
            other = self._routed(call)
            if other.model != route.model:
                return other
        raise error

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """What an answer depends on. No key and no header; nothing is asked for it."""
        names = (*_CHECKED, *_PASSED, "extra_body", "expert", "served")
        return {
            **super()._identifying_params,
            "model_name": self.model,
            "base_url": self.router.endpoint.url,
            "own_stop": self.stop,  # LangChain writes the call's over a "stop"
            **digests({name: getattr(self, name) for name in ("dispatch", *names)}),
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        choice = kwargs.get("dispatch", self.dispatch)
        own = super()._get_llm_string(stop=stop, **digests(kwargs))
        return f"{own} {self.router.version(choice)}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "t2agent"
        return params

    def _endpoint(self) -> Any:
        try:
            from t2agent.chat.remote.endpoint import Endpoint
        except ImportError as error:
            raise ConfigError(
                "ChatT2Remote asks through langchain-openai, which is not installed: "
                "pip install 't2agent[remote]'"
            ) from error
        if self.api_key is None and (key := os.environ.get(KEY_VARIABLE, "").strip()):
            self.api_key = SecretStr(key)
            self.model_fields_set.discard("api_key")  # it is the environment's: see __reduce_ex__
        return Endpoint(
            url=self.base_url or os.environ.get(URL_VARIABLE, "").strip() or URL,
            key=self.api_key,
            headers=dict(self.default_headers or {}),
            timeout=self.timeout,
            retries=self.max_retries,
            client=self.http_client,
            async_client=self.http_async_client,
        )

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


def _form(form: ReplyForm, given: Mapping[str, Any]) -> dict[str, Any]:
    """The form of the reply as OpenAI's API takes it."""
    body: dict[str, Any] = {}
    if form.tools:
        body["tools"] = list(form.tools)
        named = form.choice not in ("auto", "required")
        function = {"type": "function", "function": {"name": form.choice}}
        body["tool_choice"] = function if named else form.choice
        # What is the rule anyway is not said: not all endpoints know the option.
        if not form.parallel:
            body["parallel_tool_calls"] = False
    if form.schema is not None:
        body["response_format"] = given["response_format"]
    return body


@dataclass(slots=True)
class _Reply:
    """What comes of one request: checked against what was asked for, and completed by what is known
    here. Raises, where the whole is there, GrammarError as `Misfits.refuse`."""

    route: Route
    misfits: Misfits
    begun: float = field(default_factory=time.perf_counter)
    text: str = ""
    calls: builtins.list[Call] = field(default_factory=list)

    def result(self, found: ChatResult) -> ChatResult:
        """A whole reply, in which calls that do not fit their tool's schema are invalid ones."""
        message = found.generations[0].message
        assert isinstance(message, AIMessage)
        called = message.tool_calls or message.invalid_tool_calls
        good = []
        for call in message.tool_calls:
            problem = self.misfits.of_call(call["name"], call["args"])
            if problem is None:
                good.append(call)
                continue
            arguments = json.dumps(call["args"], ensure_ascii=False)
            message.invalid_tool_calls.append(
                invalid_tool_call(name=call["name"], args=arguments, id=call["id"], error=problem)
            )
        message.tool_calls = good
        self.text = str(message.content)
        self._refuse(self._told(message, called=bool(called)), message)
        return found

    def pieces(self, chunk: ChatGenerationChunk) -> Iterator[ChatGenerationChunk]:
        """A piece of a stream, before the last of which calls that do not fit are made ones that
        cannot be read."""
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        self.text += str(message.content)
        for piece in message.tool_call_chunks:
            if (place := piece["index"] or 0) >= len(self.calls):
                self.calls.append(Call(piece["name"] or ""))
            self.calls[place].arguments += piece["args"] or ""
        if "finish_reason" not in message.response_metadata:
            yield chunk
            return
        for place, call in enumerate(self.calls):
            call.complete = True
            arguments = call.parsed()
            if arguments is None or self.misfits.of_call(call.name, arguments) is not None:
                spoiled = tool_call_chunk(name=None, args=call.spoiler(), id=None, index=place)
                made = AIMessageChunk(content="", tool_call_chunks=[spoiled])
                yield ChatGenerationChunk(message=made)
        problem = self._told(message, called=bool(self.calls))
        yield chunk
        self._refuse(problem, message)

    def _told(self, message: BaseMessage, *, called: bool) -> str | None:
        """Complete the metadata, whose times are as of ChatT2; why the text does not fit."""
        problem = None if called else self.misfits.of_text(self.text)
        seconds = time.perf_counter() - self.begun
        first = self.route.decision.seconds
        message.response_metadata = {
            "model_name": self.route.model,
            **message.response_metadata,
            "dispatch": self.route.decision.to_dict(),
            "served": self.route.to_dict(),
            "seconds": seconds,
            "first_pass_share": first / (first + seconds) if first + seconds > 0 else 0.0,
            **({"misfits": self.misfits.found} if self.misfits.found else {}),
        }
        return problem

    def _refuse(self, problem: str | None, message: BaseMessage) -> None:
        self.misfits.refuse(problem, self.text, message.response_metadata.get("finish_reason"))
