"""T2LLM: a LangChain model for plain completion, without a chat template."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import ConfigDict, PrivateAttr

from t2agent.chat.settings import OPTIONS, Settings, digests, metadata, usage
from t2agent.engine.threads import giving_back_threads, pump
from t2agent.engine.two_passes import Answer


class T2LLM(Settings, BaseLLM):
    """Continues a text with a base model and its experts, each text with a mixture of its own.

        llm = T2LLM()
        llm.invoke("7 * 3 + 12 =")

    Fields and options of a call are those of `ChatT2`, without images and ``model``. The spelling
    of a control token in a text is text here too. `generation_info` holds what a chat reply's
    response_metadata does, and the usage. `batch` runs as one batch. Raises as `ChatT2`.
    """

    model_config = ConfigDict(extra="forbid")

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "t2agent-llm"

    # LangChain's caches: BaseLLM leaves the options of a call out of the key.

    def generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """As of BaseLLM."""
        return BaseLLM.generate(self._for_call(kwargs), prompts, *args, **kwargs)

    async def agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """As of BaseLLM."""
        return await BaseLLM.agenerate(self._for_call(kwargs), prompts, *args, **kwargs)

    def _for_call(self, given: dict[str, Any]) -> T2LLM:
        """This object, telling the options of a call in `_identifying_params`."""
        own = {name: value for name, value in given.items() if name in OPTIONS}
        if not own:
            return self
        told = self.model_copy()
        told._given = digests(own)
        return told

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {**super()._identifying_params, **({"call": self._given} if self._given else {})}

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        *,
        _cancel: threading.Event | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        options, choice = self._options(stop, kwargs)
        answers = self.engine.answer(prompts, options, choice=choice, cancel=_cancel)
        return LLMResult(
            generations=[
                [Generation(text=answer.generation.text, generation_info=self._info(answer))]
                for answer in answers
            ]
        )

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> LLMResult:
        work, cancel = giving_back_threads(self._generate), threading.Event()
        try:
            return await asyncio.to_thread(work, prompts, stop, _cancel=cancel, **kwargs)
        finally:
            cancel.set()

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        _cancel: threading.Event | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        options, choice = self._options(stop, kwargs)
        for piece in self.engine.stream(prompt, options, choice=choice, cancel=_cancel):
            if isinstance(piece, str):
                chunk = GenerationChunk(text=piece)
            else:
                chunk = GenerationChunk(text="", generation_info=self._info(piece))
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        chunks = pump(lambda cancel: self._stream(prompt, stop, _cancel=cancel, **kwargs))
        try:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            await chunks.aclose()

    def _info(self, answer: Answer) -> dict[str, Any]:
        return {**metadata(answer, self.t2.name), "usage_metadata": dict(usage(answer))}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        self._trace(params, kwargs)
        return params
