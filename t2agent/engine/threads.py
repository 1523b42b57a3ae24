"""What works in a thread and hands out pieces, as an iterator, and that as an asynchronous one."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
P = TypeVar("P")


async def pump(make: Callable[[threading.Event], Iterator[T]]) -> AsyncGenerator[T, None]:
    """The items of `make(cancel)`, which runs in a thread of its own.

    `cancel` is set when the consumer closes this iterator or is cancelled; the iterator that was
    made should end soon then.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()
    cancel = threading.Event()

    def hand_over(item: T | None, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(items.put_nowait, (item, error))
        except RuntimeError:  # the loop has been closed: nobody waits any more
            cancel.set()

    def work() -> None:
        try:
            for item in make(cancel):
                hand_over(item, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's task
            hand_over(None, error)
        else:
            hand_over(None, StopAsyncIteration())

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="t2agent-pump").start()
    try:
        while True:
            item, error = await items.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        cancel.set()


def pieces(
    work: Callable[[Callable[[P], None], threading.Event], T], cancel: threading.Event
) -> Iterator[P | T]:
    """What ``work(hand_out, cancel)`` hands out, and then its result. It runs in a thread.

    Closing the iterator sets ``cancel``, and waits for the thread.
    """
    found: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put(("result", work(lambda piece: found.put(("piece", piece)), cancel)))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            found.put(("error", error))

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="t2agent-stream")
    thread.start()
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
