"""Threads that generate: they hand out pieces as they come, and give the processor back.

Each thread that computes has a pool of OpenMP threads for as long as it lives. GCC's libgomp, which
PyTorch brings on Linux, lets the threads of all pools sleep between two products as soon as there
are more of them than processors. Measured on two cores, with t2-nano and eight rows: generating is
slower by half as soon as a second thread has computed as well.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import cache
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
Piece = TypeVar("Piece")
P = ParamSpec("P")

_SOFT = 1  # omp_pause_soft: the threads come back with the next product, in some 200 microseconds


async def pump(make: Callable[[threading.Event], Iterator[T]]) -> AsyncGenerator[T, None]:
    """The items of `make(cancel)`, which runs in a thread of its own.

    `cancel` is set when the consumer closes this iterator or is cancelled; the iterator that was
    made should end soon then.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    cancel = threading.Event()

    def put(found: tuple[str, Any]) -> None:
        try:
            loop.call_soon_threadsafe(items.put_nowait, found)
        except RuntimeError:  # the loop has been closed: nobody waits any more
            cancel.set()

    def work() -> None:
        for item in make(cancel):
            put(("piece", item))

    _started("t2agent-pump", work, put)
    try:
        while True:
            kind, value = await items.get()
            if kind == "error":
                raise value
            if kind == "result":
                return
            yield value
    finally:
        cancel.set()


def pieces(
    work: Callable[[Callable[[Piece], None], threading.Event], T], cancel: threading.Event
) -> Iterator[Piece | T]:
    """What ``work(hand_out, cancel)`` hands out, and then its result. It runs in a thread.

    Closing the iterator sets ``cancel``, and waits for the thread.
    """
    found: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    thread = _started(
        "t2agent-stream", lambda: work(lambda piece: found.put(("piece", piece)), cancel), found.put
    )
    try:
        while True:
            kind, value = found.get()
            if kind == "error":
                raise value
            yield value
            if kind == "result":
                return
    finally:
        cancel.set()
        thread.join()


def _started(
    name: str, work: Callable[[], object], put: Callable[[tuple[str, Any]], None]
) -> threading.Thread:
    """A thread that works in this context, and then puts its "result", or its "error"."""

    def run() -> None:
        try:
            put(("result", work()))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            put(("error", error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name)
    thread.start()
    return thread


def give_back_threads() -> None:
    """End the pool of the calling thread. Does nothing where PyTorch computes with another
    library than libgomp."""
    for pause in _pauses():
        pause(_SOFT)


def giving_back_threads(work: Callable[P, T]) -> Callable[P, T]:
    """A function that does the same, and then `give_back_threads`."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        finally:
            give_back_threads()

    return run


@cache
def _pauses() -> tuple[Callable[[int], Any], ...]:
    from threadpoolctl import threadpool_info

    found = [one["filepath"] for one in threadpool_info() if one.get("prefix") == "libgomp"]
    functions = (getattr(ctypes.CDLL(path), "omp_pause_resource_all", None) for path in found)
    return tuple(one for one in functions if one is not None)
