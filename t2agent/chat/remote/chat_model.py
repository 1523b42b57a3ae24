"""ChatT2Remote: the dispatcher here, the model and its experts at an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from t2agent.chat.messages import to_openai
from t2agent.chat.remote.replies import StreamReader, whole
from t2agent.chat.remote.routing import Route
from t2agent.chat.remote.settings import RemoteSettings
from t2agent.chat.settings import digests
from t2agent.chat.tool_calling import Binding
from t2agent.dispatch import Request
from t2agent.engine.reply_form import ReplyForm
from t2agent.engine.two_passes import Choice, last_request
from t2agent.errors import EndpointError

_MISSING = 404  # how an endpoint says that it does not serve a model


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: its body without the model, and all that decides on the model."""

    body: Mapping[str, Any]
    request: Request
    choice: Choice
    model: str | None
    usage: bool


class ChatT2Remote(RemoteSettings, Binding):
    """A chat model that chooses an expert for each request and has an endpoint answer with it.

        chat = ChatT2Remote("Qwen/Qwen2.5-0.5B-Instruct", base_url="http://localhost:8000/v1")
        reply = chat.invoke("What is 7 * 3 + 12?")
        reply.response_metadata["dispatch"]   # as of ChatT2
        reply.response_metadata["served"]     # {"model": "math", "expert": "math", "exact": True}

    The endpoint speaks OpenAI's chat completions and serves each expert as a model of its own, as
    vLLM does with one LoRA an expert: see docs/SERVING.md. Here there are only the experts' cards
    and the sentence encoder; nothing of the base model is loaded. An expert is chosen as by
    `ChatT2`, among those that the endpoint serves; out of scope, the base model answers. The
    fields are those of `RemoteSettings`.

    An endpoint adds one expert to a request, with weight 1. Where a dispatcher wants several, the
    one with the greatest weight answers, and ``served["exact"]`` is False.

    Options of one call, or of `.bind(...)`: ``stop``, ``max_tokens``, ``temperature``, ``top_p``,
    ``seed``, ``logprobs``, ``top_logprobs``, ``extra_body``; one of ``expert`` (a name or an
    Expert), ``mixture`` (of one expert) and ``dispatch`` ("embedding", "off" or a Dispatcher); or
    ``model``, a model of the endpoint's, which then answers. Tools and structured output are as of
    `ChatT2`; that replies keep to them is up to the endpoint.

    `batch` asks for all at once, in threads (or tasks); the endpoint makes batches of it. Closing
    a stream, or cancelling a task, closes the connection, which ends the generation at vLLM.

    Raises, when called: EndpointError where the endpoint cannot be reached, refuses or breaks off;
    ContextLengthError for a prompt that it says is too long; ExpertNotFoundError for an expert
    that it does not serve; ImageRefusedError, ModalityError and ConfigError as ChatT2.
    """

    model_config = ConfigDict(extra="forbid")

    @property
    def _llm_type(self) -> str:
        return "t2agent-chat-remote"

    def __init__(self, model: str = "t2-nano", **fields: Any) -> None:
        super().__init__(model=model, **fields)
        if self.profile is None:
            self.profile = ModelProfile(
                text_inputs=True,
                text_outputs=True,
                image_url_inputs=bool(self.allow_image_urls),
                tool_calling=True,
                tool_choice=True,
                tool_call_streaming=True,
            )

    def route(self, input: LanguageModelInput, **options: Any) -> Route:  # noqa: A002 - as invoke
        """Who would answer, without asking for the answer; options as of a call.

        For clients of one's own: ``Route.model`` is what the endpoint calls the model.
        """
        messages = self._convert_input(input).to_messages()
        return self._routed(self._call(messages, None, options))

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
        call = self._call(messages, stop, kwargs)
        route = self._routed(call)
        begun = time.perf_counter()
        try:
            found = self.router.endpoint.complete(_body(call, route))
        except EndpointError as error:
            route = self._rerouted(call, route, error)
            begun = time.perf_counter()
            found = self.router.endpoint.complete(_body(call, route))
        return _result(whole(found), route, begun)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        call, route = await asyncio.to_thread(self._begun, messages, stop, kwargs)
        begun = time.perf_counter()
        try:
            found = await self.router.endpoint.acomplete(_body(call, route))
        except EndpointError as error:
            route = await asyncio.to_thread(self._rerouted, call, route, error)
            begun = time.perf_counter()
            found = await self.router.endpoint.acomplete(_body(call, route))
        return _result(whole(found), route, begun)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = self._call(messages, stop, kwargs)
        route: Route | None = self._routed(call)
        while route is not None:
            reader, begun = StreamReader(), time.perf_counter()
            try:
                for piece in self.router.endpoint.stream(_streamed(call, route)):
                    chunk = reader.chunk(piece)
                    if chunk is not None:
                        yield ChatGenerationChunk(message=chunk)
            except EndpointError as error:
                route = self._rerouted(call, route, error)
                continue
            yield _last(reader, route, begun)
            route = None

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, first = await asyncio.to_thread(self._begun, messages, stop, kwargs)
        route: Route | None = first
        while route is not None:
            reader, begun = StreamReader(), time.perf_counter()
            pieces = self.router.endpoint.astream(_streamed(call, route))
            try:
                async for piece in pieces:
                    chunk = reader.chunk(piece)
                    if chunk is not None:
                        yield ChatGenerationChunk(message=chunk)
            except EndpointError as error:
                route = await asyncio.to_thread(self._rerouted, call, route, error)
                continue
            finally:
                await pieces.aclose()
            yield _last(reader, route, begun)
            route = None

    def _begun(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> tuple[_Call, Route]:
        call = self._call(messages, stop, given)
        return call, self._routed(call)

    def _call(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> _Call:
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
        return _Call(body, last_request(converted, images, form.tools), choice, model, usage)

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
        return {
            "model_name": self.model,
            "base_url": self.router.endpoint.access.url,
            **digests({"dispatch": self.dispatch, **self._given_options()}),
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        choice = kwargs.get("dispatch", self.dispatch)
        own = super()._get_llm_string(stop=stop, **digests(kwargs))
        return f"{own} {self.router.version(choice)}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "t2agent"
        return params


def _body(call: _Call, route: Route) -> dict[str, Any]:
    return {"model": route.model, **call.body}


def _streamed(call: _Call, route: Route) -> dict[str, Any]:
    options = {"stream_options": {"include_usage": True}} if call.usage else {}
    return {**_body(call, route), "stream": True, **options}


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


def _told(message: AIMessage | AIMessageChunk, route: Route, begun: float) -> None:
    """Complete a message's metadata by what is known here; the times are as of ChatT2."""
    seconds = time.perf_counter() - begun
    first = route.decision.seconds
    message.response_metadata = {
        "model_name": route.model,
        **message.response_metadata,
        "dispatch": route.decision.to_dict(),
        "served": route.to_dict(),
        "seconds": seconds,
        "first_pass_share": first / (first + seconds) if first + seconds > 0 else 0.0,
    }


def _result(message: AIMessage, route: Route, begun: float) -> ChatResult:
    _told(message, route, begun)
    return ChatResult(generations=[ChatGeneration(message=message)])


def _last(reader: StreamReader, route: Route, begun: float) -> ChatGenerationChunk:
    message = reader.last()
    _told(message, route, begun)
    return ChatGenerationChunk(message=message)
