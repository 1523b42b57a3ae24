"""ChatT2: a LangChain chat model that adapts itself to each request."""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, ClassVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, get_config_list
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from t2agent.chat.images import ReadsImages
from t2agent.chat.messages import to_prompt
from t2agent.chat.replies import ReplyReader
from t2agent.chat.settings import Settings, digests, metadata, usage
from t2agent.chat.tool_calling import Binding
from t2agent.dispatch.few_shot.search import SearchOptions
from t2agent.dispatch.few_shot.shots import Examples
from t2agent.dispatch.strategies import version_of
from t2agent.engine.asking import call_of, shown
from t2agent.engine.batching import Call, Calls, Ticket, gathered, joint, seat, submit
from t2agent.engine.logprobs import chat_logprobs
from t2agent.engine.reply_form import FIELDS, ReplyForm
from t2agent.engine.shortlist import Shortlist, most_tools
from t2agent.engine.threads import giving_back_threads, pump
from t2agent.engine.two_passes import Answer, Engine
from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture, MixtureLike
from t2agent.models.installed import AUTO
from t2agent.models.options import Count, check_option
from t2agent.models.prompt import encode, keeps_system_in_place
from t2agent.tasks.rewards.choice import Reward


class ChatT2(ReadsImages, Settings, Binding):
    """A chat model with experts: each request is dispatched, then answered by its mixture.

        chat = ChatT2()
        reply = chat.invoke("What is 7 * 3 + 12?")
        reply.response_metadata["dispatch"]   # strategy, mixture, scores, in_scope, seconds

    Options of one call, or of `.bind(...)`: ``stop``, ``max_tokens``, ``temperature``, ``top_p``,
    ``top_k``, ``min_p``, ``repetition_penalty``, ``seed``, ``n``, ``logprobs``, ``top_logprobs``,
    ``reasoning``, ``model`` (another base model that `allow_models` allows, which is then loaded,
    and kept among the last three), and one of ``expert`` (a name or an Expert), ``mixture`` and
    ``dispatch`` (a strategy's name or a Dispatcher).

    `batch` runs as one batch with a mixture for each row. Calls by `invoke` and `ainvoke` that come
    while the model is busy are gathered, and answered as one batch when it is free: see
    `t2agent.engine.batching`. Each gets the answer that it would get alone. Streams run by
    themselves. Closing a stream, or cancelling a task, ends the generation at the next token.

    What a prompt begins with is not read again where the same mixture read it before, as at an
    agent's next step; the reply is the same: see `t2agent.models.reading`.

    Images are content blocks in the forms of LangChain, OpenAI and Anthropic (`t2agent.images`), in
    the results of tools as well: where the model's template shows no results, they come as a user's
    message, with their images. Places that a message names are read only where that is allowed.

    LangChain's other facilities: `configurable_fields` and `configurable_alternatives` work for
    all fields, and copies share the model. A cache's key holds all that changes an answer. The
    dispatch decision is in the response_metadata of the message, and so in what `on_llm_end` is
    told; LangSmith shows it in a run's output, beside the parameters ``ls_...`` in its metadata.
    `init_chat_model` knows only LangChain's own providers (there is no entry point for others):
    pass a ChatT2 where a name would do, or choose among several by `configurable_alternatives`.
    `copy.copy` and `model_copy` share the loaded model; a ChatT2 cannot be pickled, copied deeply
    or serialised by `dumpd` (LangChain's `load` takes only classes of its own list).

    A reply to a ``response_format`` that does not fit its schema raises GrammarError; with the
    option ``on_misfit="keep"`` it comes all the same, and response_metadata["misfits"] says why.

    Raises, when called: ModalityError for an image where the model reads text only,
    ImageRefusedError for one that may not be read, ContextLengthError for a prompt that is too
    long, ExpertNotFoundError for an unknown expert and ConfigError for unusable options.
    """

    model_config = ConfigDict(extra="forbid")

    max_tools: Any = "auto"
    """How many of the bound tools are shown to the model, those that fit the request best; None
    for all. "auto": what the base model asks for, which is 4 for t2-nano, and all for others."""

    n: int = 1
    """Replies to each request; `generate` gives them all, `invoke` the first."""
    logprobs: bool = False
    """Whether response_metadata["logprobs"] tells how likely the tokens of a reply were."""
    top_logprobs: int | None = None
    """The same, with so many of the likeliest tokens in the place of each, 20 at most."""
    reasoning: bool | None = None
    """Of models that think before they speak: True gives thoughts as reasoning blocks
    (additional_kwargs["reasoning_content"]) instead of in the text, False leaves them out; None
    leaves them in the text."""

    _sampled: ClassVar[tuple[str, ...]] = ("logprobs", "top_logprobs")
    _more: ClassVar[tuple[str, ...]] = ("max_tools", "n", "reasoning", *_sampled)

    @property
    def _llm_type(self) -> str:
        return "t2agent-chat"

    def __init__(self, model: Any = AUTO, **fields: Any) -> None:
        Settings.__init__(self, model=model, **fields)
        most_tools(self.t2, self.max_tools)  # for its errors
        check_option("n", self.n, Count)
        if self.profile is None:
            self.profile = self._abilities()

    def _abilities(self) -> ModelProfile:
        """What the model can do, by the keys that the installed langchain-core knows."""
        sees = "image" in self.t2.modalities
        found: dict[str, Any] = {
            "name": self.t2.name,
            "open_weights": True,
            "max_input_tokens": self.t2.context_length,
            "text_inputs": True,
            "text_outputs": True,
            "image_inputs": sees,
            "image_url_inputs": sees and bool(self.allow_image_urls),
            "image_tool_message": sees,
            "attachment": sees,
            "tool_calling": True,
            "tool_choice": True,
            "tool_call_streaming": True,
            "structured_output": True,
            "temperature": True,
            "mid_conversation_system_messages": keeps_system_in_place(self.t2),
        }
        known = ModelProfile.__annotations__
        return cast("ModelProfile", {key: value for key, value in found.items() if key in known})

    def adapt(
        self,
        examples: Examples,
        *,
        name: str | None = None,
        reward: Reward | None = None,
        start: MixtureLike = None,
        replace: bool = False,
        persist: bool = False,
        progress: bool = True,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Mixture:
        """Find a mixture of the experts for a task of which a few examples are known.

            chat.adapt([("3 * 4?", "The answer is 12."), ...], name="tables")

        Searched is the best mean reward. The base model or an expert alone is the result unless a
        mixture is better on examples that were kept out of the search; the base model, with
        `t2agent.errors.NoSignalWarning`, where no reply earns more than another. With a name, the
        mixture becomes an expert of the registry, with the examples' requests on its card.
        Without, strategy "few-shot" of this object answers with it, and "embedding+few-shot"
        where a request is like the examples.

        Args:
            examples: some ten pairs (request, answer), triples (request, result, whole reply) or
                `t2agent.train.Example`s, or a `Task`.
            name: of the expert that is registered; with `replace`, in the place of another.
            reward: as of `t2agent.train.ExampleTask`; None for the task's own, else "auto", which
                finds answers in replies.
            persist: whether that expert is saved in the user's folder, for later processes.
            start: a mixture to try first; "embedding" for what that strategy says of them.
            progress: show a bar on stderr.
            cancel: ends the search when it is set; the best mixture until then counts.
            options: fields of `t2agent.dispatch.SearchOptions`.

        Raises:
            ConfigError, ExpertExistsError: as `t2agent.dispatch.few_shot.strategy.adapt`.
        """
        return self.engine.adapt(
            examples,
            name=name,
            reward=reward,
            start=start,
            replace_existing=replace,
            persist=persist,
            options=SearchOptions(**options),
            progress=progress,
            cancel=cancel,
        ).mixture

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As `invoke` for each input, but as one batch of at most `max_concurrency` rows."""

        def one(batch: Calls, given: LanguageModelInput, own: RunnableConfig) -> Any:
            with seat(batch, self):
                try:
                    return self.invoke(given, own, **kwargs)
                except Exception as error:
                    if return_exceptions:
                        return error
                    raise

        replies: list[Any] = []
        for part, configs in _parts(inputs, config):
            # The batch is left first, so that on an error the threads end soon.
            with ContextThreadPoolExecutor(len(part)) as executor, joint(len(part)) as batch:
                replies += executor.map(partial(one, batch), part, configs)
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

        async def one(batch: Calls, given: LanguageModelInput, own: RunnableConfig) -> AIMessage:
            with seat(batch, self):
                return await self.ainvoke(given, own, **kwargs)

        replies: list[Any] = []
        for part, configs in _parts(inputs, config):
            with joint(len(part)) as batch:
                calls = map(partial(one, batch), part, configs)
                replies += await asyncio.gather(*calls, return_exceptions=return_exceptions)
        return replies

    def _see(self, options: builtins.dict[str, Any]) -> None:
        form = {name: options[name] for name in FIELDS if name in options}
        ReplyForm.of(form).check(self.t2, self._most_tools(self.engine, options))

    def get_token_ids(self, text: str) -> list[int]:
        """The tokens of a text by itself, without those that begin or end a sequence."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with self.t2.tokenizer_lock:
            found = self.t2.tokenizer(text, add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool]
        | None = None,
    ) -> int:
        """The tokens of the whole prompt: what a reply's usage tells as ``input_tokens``.

        The header of the answer counts, as do the images, which are read, and the tools that a
        request shows.

        Raises:
            T2Error: whatever a call with these messages raises.
        """
        form = ReplyForm.of({"tools": [convert_to_openai_tool(tool) for tool in tools or ()]})
        prompt = to_prompt(messages, self._policy)
        _, prompt, _ = shown(self.engine, prompt, form, None, self._most_tools(self.engine, {}))
        return int(encode(self.t2, [prompt])["attention_mask"].sum())

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        call, form, tools = self._call(messages, stop, kwargs)
        copies = self._copies(kwargs)
        if copies == 1 or call.options.temperature == 0:
            answers = [gathered(call, self)] * copies
        else:
            with joint(copies) as batch:
                tickets = [batch.submit(call.key, call) for _ in range(copies)]
                answers = [ticket.future.result() for ticket in tickets]
        return self._result(answers, form, call, tools, kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        prepare = giving_back_threads(self._call)  # tools are ranked by the encoder
        call, form, tools = await asyncio.to_thread(prepare, messages, stop, kwargs)
        copies = self._copies(kwargs)
        if copies == 1 or call.options.temperature == 0:
            answers = [await _awaited(submit(call, self))] * copies
        else:
            with joint(copies) as batch:
                tickets = [batch.submit(call.key, call) for _ in range(copies)]
                answers = await asyncio.gather(*map(_awaited, tickets))
        return self._result(answers, form, call, tools, kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        *,
        _cancel: threading.Event | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, form, tools = self._call(messages, stop, kwargs)
        if self._copies(kwargs) > 1:
            raise ConfigError("n is more than 1, and a stream holds one reply: give n=1")
        reader = self._reader(form, call, kwargs)
        pieces = call.engine.stream(
            call.prompt,
            call.options,
            choice=call.choice,
            cancel=_cancel,
            constraint=call.constraint,
            keep=call.keep,
        )
        for piece in pieces:
            if isinstance(piece, str):
                for message in reader.chunks(piece):
                    yield ChatGenerationChunk(message=message)
                continue
            for message in reader.chunks("", last=True):
                yield ChatGenerationChunk(message=message)
            problem = reader.problem()
            told = _told(piece, call, reader, tools)
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content="",
                    usage_metadata=usage(piece),
                    response_metadata=told,
                    chunk_position="last",
                )
            )
            reader.misfits.refuse(problem, piece.generation.text, piece.generation.finish_reason)

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

    def _call(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: builtins.dict[str, Any],
    ) -> tuple[Call, ReplyForm, Shortlist]:
        """A request with all that its answer depends on, the form of its reply, and the tools that
        it shows."""
        form = ReplyForm.of(given)
        own = {name: value for name, value in given.items() if name not in (*FIELDS, "model")}
        options, choice = self._options(stop, own)
        engine = self.other(given["model"]).engine if given.get("model") else self.engine
        prompt = to_prompt(messages, self._policy)
        return call_of(engine, prompt, form, options, choice, self._most_tools(engine, given))

    def _most_tools(self, engine: Engine, given: Mapping[str, Any]) -> int | None:
        """How many tools are shown, by a call's own options before the object's."""
        return most_tools(engine.model, given.get("max_tools", self.max_tools))

    def _copies(self, given: Mapping[str, Any]) -> int:
        """How many replies are wanted, by a call's own options before the object's."""
        copies = given.get("n", self.n)
        check_option("n", copies, Count)
        return int(copies)

    def _reader(self, form: ReplyForm, call: Call, given: Mapping[str, Any]) -> ReplyReader:
        reasoning = given.get("reasoning", self.reasoning)
        return ReplyReader.of(form, call.engine.model, call.conversation, reasoning=reasoning)

    def _result(
        self,
        answers: Sequence[Answer],
        form: ReplyForm,
        call: Call,
        tools: Shortlist,
        given: Mapping[str, Any],
    ) -> ChatResult:
        generations = []
        for answer in answers:
            found = answer.generation
            if found.finish_reason == "cancelled":
                # Its batch has failed or was left: half a reply must not come into a cache.
                raise CancelledError(
                    "the batch of this call was given up before its reply was whole"
                )
            reader = self._reader(form, call, given)
            message: AIMessage = reader.message(found.text)
            reader.misfits.refuse(reader.problem(), found.text, found.finish_reason)
            message.usage_metadata = usage(answer)
            message.response_metadata = _told(answer, call, reader, tools)
            generations.append(ChatGeneration(message=message))
        return ChatResult(generations=generations)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {**super()._identifying_params, "output_version": self.output_version}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        if kwargs.get("model"):
            return self.other(kwargs.pop("model"))._get_llm_string(stop, **kwargs)
        own = super()._get_llm_string(stop=stop, **digests(kwargs))
        choice = kwargs.get("dispatch")
        if choice is None:
            return own
        return f"{own} {version_of(self.engine.dispatching(choice).dispatcher)}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        self._trace(params, kwargs)
        return params


async def _awaited(ticket: Ticket[Call, Answer]) -> Answer:
    try:
        return await asyncio.wrap_future(ticket.future)
    finally:
        ticket.give_up()


def _told(
    answer: Answer, call: Call, reader: ReplyReader, tools: Shortlist
) -> builtins.dict[str, Any]:
    """What a message's response_metadata tells of a reply that was read whole."""
    model = call.engine.model
    return metadata(
        answer,
        model.name,
        called=reader.called,
        tools=tools,
        misfits=reader.misfits.found,
        logprobs=chat_logprobs(model, answer.generation.logprobs),
    )


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
