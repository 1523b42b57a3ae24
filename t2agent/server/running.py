"""Replies that a request waits for: from the scheduler's thread into the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from t2agent.engine.batching import Call
from t2agent.engine.scheduler import Job
from t2agent.engine.two_passes import Answer
from t2agent.models.generate import prompt_key, row_seeds
from t2agent.server.failures import RefusedError
from t2agent.server.served import Base

T = TypeVar("T")


class Running:
    """One reply in the making: its pieces as they come, and then its answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.job: Job

    @classmethod
    async def start(
        cls,
        base: Base,
        call: Call,
        seed: int | None,
        *,
        pieces: bool,
        like: Running | None = None,
    ) -> Running:
        """Have a call answered. pieces: whether its text is wanted piece by piece. like: another
        reply to it.

        Raises as `Scheduler.submit`.
        """
        made = cls()
        on_text = made._put if pieces else None
        made.job = await run_in_threadpool(
            base.scheduler.submit,
            call,
            on_text=on_text,
            seed=seed,
            like=None if like is None else like.job,
        )
        made.job.future.add_done_callback(lambda _: made._put(None))
        return made

    async def pieces(self) -> AsyncIterator[str]:
        """The pieces of the text, until it is whole."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def answer(self) -> Answer:
        """The whole answer. Raises what went wrong."""
        return await asyncio.wrap_future(self.job.future)

    def give_up(self) -> None:
        """Nobody wants the rest."""
        self.job.give_up()

    def _put(self, piece: str | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


async def started(base: Base, calls: Sequence[Call], copies: int, *, pieces: bool) -> list[Running]:
    """So many replies to each call, each with a seed of its own.

    Raises as `Scheduler.submit`; then none of them goes on.
    """
    found: list[Running] = []
    try:
        for call in calls:
            seeds: list[int | None] = [None] * copies
            if call.options.temperature > 0 and copies > 1:
                seeds = list(row_seeds(call.options.seed, [prompt_key(call.prompt)], copies))
            first: Running | None = None
            for seed in seeds:
                one = await Running.start(base, call, seed, pieces=pieces, like=first)
                found.append(one)
                first = first or one
    except BaseException:
        for one in found:
            one.give_up()
        raise
    return found


async def within(
    request: Request, seconds: float, work: Awaitable[T], give_up: Callable[[], Any]
) -> T:
    """What some work comes to, while the connection is open and for so many seconds at most.

    Raises RefusedError where the time is over, or nobody listens any more.
    """
    job = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({job, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        if gone.done():
            raise RefusedError(499, "the connection was closed", "closed")
        raise RefusedError(
            504,
            f"the reply took longer than {seconds:g} seconds; ask for fewer tokens, or start the "
            "server with a larger --timeout",
            "timeout",
        )
    finally:
        if not job.done():
            give_up()
        for task in (job, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _gone(request: Request) -> None:
    """Ends when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
