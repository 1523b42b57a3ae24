from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from t2agent.engine.threads import pump

WHERE: ContextVar[str] = ContextVar("where", default="nowhere")


async def test_items_come_in_order_from_a_thread_with_the_callers_context() -> None:
    WHERE.set("here")

    def make(_cancel: threading.Event) -> Iterator[object]:
        yield WHERE.get()
        yield threading.get_ident()
        yield None

    where, thread, nothing = [item async for item in pump(make)]
    assert (where, nothing) == ("here", None)
    assert thread != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
async def test_an_error_comes_after_the_items_before_it(error: BaseException) -> None:
    def make(_cancel: threading.Event) -> Iterator[int]:
        yield 1
        raise error

    items = pump(make)
    assert await anext(items) == 1
    with pytest.raises(type(error)) as caught:
        await anext(items)
    assert caught.value is error


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_who_stops_listening_stops_the_work(way: str) -> None:
    over = threading.Event()

    def make(cancel: threading.Event) -> Iterator[int]:
        yield 1
        assert cancel.wait(10)
        over.set()

    items = pump(make)
    assert await anext(items) == 1
    if way == "close":
        await items.aclose()
    else:
        task = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(over.wait, 5)


async def test_the_loop_goes_on_while_an_item_is_made() -> None:
    def make(_cancel: threading.Event) -> Iterator[int]:
        time.sleep(0.2)
        yield 1

    items = pump(make)
    task = asyncio.ensure_future(anext(items))
    begin = time.perf_counter()
    await asyncio.sleep(0.01)
    assert time.perf_counter() - begin < 0.15
    assert await task == 1
    await items.aclose()
