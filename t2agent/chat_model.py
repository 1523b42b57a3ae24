"""ChatT2: a LangChain chat model that adapts itself to each request."""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, get_config_list
from pydantic import ConfigDict

from t2agent.dispatch.search import search_options
from t2agent.dispatch.shots import Reward
from t2agent.engine import Answer
from t2agent.expert import Mixture, MixtureLike
from t2agent.generate import Prompt
from t2agent.joint import JointBatch, JointError, Seat
from t2agent.messages import to_prompt
from t2agent.pump import pump
from t2agent.settings import Settings, digests, in_thread, metadata, usage

Batch = JointBatch[Prompt, Answer]
_SEAT: ContextVar[Seat[Prompt, Answer] | None] = ContextVar("t2agent_seat", default=None)


class ChatT2(Settings, BaseChatModel):
    """A chat model with experts: each request is dispatched, then answered by its mixture.

        chat = ChatT2("t2-nano")
        reply = chat.invoke("What is 7 * 3 + 12?")
        reply.response_metadata["dispatch"]   # strategy, mixture, scores, in_scope, seconds

    Options of one call, or of `.bind(...)`: ``stop``, ``max_tokens``, ``temperature``, ``top_p``,
    ``seed``, and one of ``expert`` (a name or an Expert), ``mixture`` and ``dispatch`` (a
    strategy's name or a Dispatcher). `batch` runs as one batch with a mixture for each row.
    Closing a stream, or cancelling a task, ends the generation at the next token.

    Raises, when called: ModalityError for an image where the model reads text only,
    ImageRefusedError for one that may not be read, ContextLengthError for a prompt that is too
    long, ExpertNotFoundError for an unknown expert and ConfigError for unusable options.
    """

    model_config = ConfigDict(extra="forbid")

    @property
    def _llm_type(self) -> str:
        return "t2agent-chat"

    def __init__(self, model: Any = "t2-nano", **fields: Any) -> None:
        super().__init__(model, **fields)
        if self.profile is None:
            self.profile = ModelProfile(
                max_input_tokens=self.t2.context_length,
                text_inputs=True,
                text_outputs=True,
                image_inputs="image" in self.t2.modalities,
            )

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As `invoke` for each input, but as one batch of at most `max_concurrency` rows."""
        replies: list[Any] = []
        for part, configs in _parts(inputs, config):
            batch = self._joint(len(part), kwargs)

            def one(given: LanguageModelInput, own: RunnableConfig, batch: Batch = batch) -> Any:
                with _seated(batch, self):
                    try:
                        return self.invoke(given, own, **kwargs)
                    except Exception as error:
                        if return_exceptions:
                            return error
                        raise

            with ContextThreadPoolExecutor(max_workers=len(part)) as executor:
                try:
                    replies += executor.map(one, part, configs)
                finally:
                    batch.cancel.set()
        return replies

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As `batch`."""
        replies: list[Any] = []
        for part, configs in _parts(inputs, config):
            batch = self._joint(len(part), kwargs)

            async def one(
                given: LanguageModelInput, own: RunnableConfig, batch: Batch = batch
            ) -> AIMessage:
                with _seated(batch, self):
                    return await self.ainvoke(given, own, **kwargs)

            try:
                replies += await asyncio.gather(
                    *map(one, part, configs), return_exceptions=return_exceptions
                )
            finally:
                batch.cancel.set()
        return replies

    def adapt(
        self,
        examples: object,
        *,
        name: str | None = None,
        reward: Reward | None = None,
        start: MixtureLike = None,
        replace: bool = False,
        progress: bool = True,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Mixture:
        """Find a mixture of the experts for a task of which a few examples are known.

            chat.adapt([("3 * 4?", "The answer is 12."), ...], name="tables")

        Searched is the best mean reward; among equal ones the likelihood of the answers decides,
        so whole replies serve it best. With a name, the mixture becomes an expert of the registry,
        with the examples' requests on its card. Without, strategy "few-shot" of this object
        answers with it, and "embedding+few-shot" where a request is like the examples.

        Args:
            examples: some ten pairs (request, answer), triples (request, result, whole reply) or
                `t2agent.train.Example`s, or a `Task`.
            name: of the expert that is registered; with `replace`, in the place of another.
            reward: as of `t2agent.train.ExampleTask`; None for the task's own, else "exact".
            start: a mixture to try first; "embedding" for what that strategy says of them.
            progress: show a bar on stderr.
            cancel: ends the search when it is set; the best mixture until then counts.
            options: fields of `t2agent.dispatch.SearchOptions`.

        Raises:
            ConfigError, ExpertExistsError: as `t2agent.dispatch.fewshot.adapt`.
        """
        return self._engine.adapt(
            examples,
            name=name,
            reward=reward,
            start=start,
            replace_existing=replace,
            options=search_options(options),
            progress=progress,
            cancel=cancel,
        ).mixture

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        prompt = to_prompt(messages, self._policy)
        seat, cancel = self._seat(), threading.Event()
        if seat is not None:
            cancel = seat.batch.cancel
            try:
                return self._result(seat.submit(prompt).result())
            except JointError:
                pass  # this request may be all right; if not, it gets an error of its own
        return self._result(self._answer(stop, kwargs)([prompt], cancel)[0])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        prompt = await asyncio.to_thread(to_prompt, messages, self._policy)
        seat = self._seat()
        if seat is not None:
            try:
                return self._result(await asyncio.wrap_future(seat.submit(prompt)))
            except JointError:
                pass
        answer = self._answer(stop, kwargs)
        return self._result((await in_thread(lambda cancel: answer([prompt], cancel)))[0])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        *,
        _cancel: threading.Event | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        options, choice = self._options(stop, kwargs)
        prompt = to_prompt(messages, self._policy)
        for piece in self._engine.stream(prompt, options, choice=choice, cancel=_cancel):
            if isinstance(piece, str):
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            else:
                yield ChatGenerationChunk(
                    message=AIMessageChunk(
                        content="",
                        usage_metadata=usage(piece),
                        response_metadata=metadata(piece, self.t2.name),
                        chunk_position="last",
                    )
                )

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = pump(lambda cancel: self._stream(messages, stop, _cancel=cancel, **kwargs))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    def _answer(
        self, stop: list[str] | None, given: builtins.dict[str, Any]
    ) -> Callable[[Sequence[Prompt], threading.Event], list[Answer]]:
        """What answers prompts with the options of one call."""
        options, choice = self._options(stop, given)

        def answer(prompts: Sequence[Prompt], cancel: threading.Event) -> list[Answer]:
            return self._engine.answer(prompts, options, choice=choice, cancel=cancel)

        return answer

    def _seat(self) -> Seat[Prompt, Answer] | None:
        """The place in a batch that this call may take."""
        seat = _SEAT.get()
        return seat if seat is not None and seat.free and seat.owner is self else None

    def _joint(self, size: int, given: builtins.dict[str, Any]) -> Batch:
        options = {name: value for name, value in given.items() if name != "stop"}
        return JointBatch(size, self._answer(given.get("stop"), options))

    def _result(self, answer: Answer) -> ChatResult:
        message = AIMessage(
            content=answer.generation.text,
            usage_metadata=usage(answer),
            response_metadata=metadata(answer, self.t2.name),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return super()._get_llm_string(stop=stop, **digests(kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        self._trace(params, kwargs)
        return params


@contextmanager
def _seated(batch: Batch, owner: ChatT2) -> Iterator[None]:
    """The calls of `owner` inside take part in the batch."""
    with Seat(batch, owner) as seat:
        token = _SEAT.set(seat)
        try:
            yield
        finally:
            _SEAT.reset(token)


def _parts(
    inputs: list[LanguageModelInput], config: RunnableConfig | list[RunnableConfig] | None
) -> Iterator[tuple[list[LanguageModelInput], list[RunnableConfig]]]:
    """Inputs and their configs, cut to the size that the first config's max_concurrency sets."""
    if not inputs:
        return
    configs = get_config_list(config, len(inputs))
    size = configs[0].get("max_concurrency") or len(inputs)
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size], configs[start : start + size]
