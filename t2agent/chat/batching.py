"""`batch` and `abatch` of a chat model as one batch of the base model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, get_config_list

from t2agent.engine.answers import Answer
from t2agent.engine.batching import Call, answer_together
from t2agent.engine.joint import JointBatch, Seat

Batch = JointBatch[Call, Answer]
_SEAT: ContextVar[Seat[Call, Answer] | None] = ContextVar("t2agent_seat", default=None)


class JointChatModel(BaseChatModel):
    """A chat model whose batches are answered together: see `t2agent.engine.joint`."""

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
            batch: Batch = JointBatch(len(part), _together)

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
            batch: Batch = JointBatch(len(part), _together)

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

    def _seat(self) -> Seat[Call, Answer] | None:
        """The place in a batch that this call may take."""
        seat = _SEAT.get()
        return seat if seat is not None and seat.free and seat.owner is self else None


def _together(calls: Sequence[Call], cancel: threading.Event) -> list[Answer]:
    """All calls of a batch have its options, and copies of a prompt are to differ."""
    return answer_together(calls, cancel, alike=False)


@contextmanager
def _seated(batch: Batch, owner: object) -> Iterator[None]:
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
