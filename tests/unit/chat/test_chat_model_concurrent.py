"""ChatT2 used by many at once: calls are gathered, can be cancelled, and do not disturb others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from t2agent.chat.chat_model import ChatT2
from t2agent.dispatch import Decision, Request
from t2agent.errors import ContextLengthError, ExpertNotFoundError
from t2agent.models.model import T2Model
from tests.experts import WordDispatcher, random_expert
from tests.models import CONTEXT, build_text_model

QUESTIONS = [
    f"{text} number {n}"
    for n in range(4)
    for text in ("an alpha one", "a beta one, longer than it", "another", "alpha again")
]


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


def chat_of(model: T2Model, **fields: Any) -> ChatT2:
    return ChatT2(
        model, **{"dispatch": WordDispatcher("alpha", "beta"), "max_tokens": 12, **fields}
    )


@pytest.fixture
def chat(model: T2Model) -> ChatT2:
    return chat_of(model)


class Steps:
    """Counts the forward passes of a model, and the rows of each."""

    def __init__(self, model: T2Model) -> None:
        self.count, self.rows = 0, 0
        self.handle = model.model.lm_head.register_forward_hook(self._see)

    def _see(self, _module: object, given: tuple[Any, ...], *_rest: object) -> None:
        self.count += 1
        self.rows = max(self.rows, len(given[0]))


@pytest.fixture
def steps(model: T2Model) -> Iterator[Steps]:
    counted = Steps(model)
    yield counted
    counted.handle.remove()


def settle() -> None:
    """Wait for the threads of t2agent; the one that gathers calls waits for more of them."""
    for thread in threading.enumerate():
        if thread.name.startswith("t2agent") and thread.name != "t2agent-gathering":
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    settle()


SAMPLED = {"temperature": 1.0, "seed": 5}


@pytest.mark.parametrize("options", [{}, SAMPLED])
async def test_tasks_are_gathered(chat: ChatT2, steps: Steps, options: dict[str, Any]) -> None:
    asked = [*QUESTIONS, *QUESTIONS[:4]]
    alone = [chat.invoke(text, **options) for text in asked]
    one_by_one, steps.count = steps.count, 0
    replies = await asyncio.gather(*(chat.ainvoke(text, **options) for text in asked))
    assert [reply.content for reply in replies] == [reply.content for reply in alone]
    for reply, other in zip(replies, alone, strict=True):
        told, known = reply.response_metadata["dispatch"], other.response_metadata["dispatch"]
        assert told["mixture"] == known["mixture"]
    assert len({reply.id for reply in replies}) == len(asked)
    assert steps.count <= one_by_one / 4
    assert steps.rows > 8


def test_threads_are_gathered(chat: ChatT2, steps: Steps) -> None:
    alone = [chat.invoke(text).content for text in QUESTIONS]
    one_by_one, steps.count = steps.count, 0
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        replies = list(pool.map(lambda text: chat.invoke(text).content, QUESTIONS))
    assert replies == alone
    assert steps.count <= one_by_one / 3


async def test_each_task_has_its_own_options(chat: ChatT2) -> None:
    ways: list[dict[str, Any]] = [
        {"expert": "alpha"}, {"mixture": {"beta": 0.5}}, {"dispatch": "off"}, {"max_tokens": 3},
        {"stop": ["e"]}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.0, "seed": 2},
    ]  # fmt: skip
    alone = [chat.invoke("hello", **way).content for way in ways * 2]
    replies = await asyncio.gather(*(chat.ainvoke("hello", **way) for way in ways * 2))
    assert [reply.content for reply in replies] == alone


async def test_an_error_is_of_one_task_alone(chat: ChatT2) -> None:
    good = chat.invoke(QUESTIONS[0]).content
    replies = await asyncio.gather(
        chat.ainvoke(QUESTIONS[1]),
        chat.ainvoke("word " * CONTEXT),
        chat.ainvoke(QUESTIONS[0]),
        chat.ainvoke("x", expert="delta"),
        chat.ainvoke(QUESTIONS[0]),
        return_exceptions=True,
    )
    assert isinstance(replies[1], ContextLengthError)
    assert isinstance(replies[3], ExpertNotFoundError)
    assert [replies[2].content, replies[4].content] == [good, good]  # type: ignore[union-attr]


async def test_cancelling_one_task_leaves_the_others(model: T2Model, steps: Steps) -> None:
    chat = chat_of(model, max_tokens=100)
    alone = [chat.invoke(text).content for text in QUESTIONS[:4]]
    steps.count = steps.rows = 0
    tasks = [asyncio.create_task(chat.ainvoke(text)) for text in QUESTIONS[:4]]
    while steps.rows < 3:  # they are being answered together
        await asyncio.sleep(0.001)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    others = [(await task).content for task in tasks if task is not tasks[1]]
    assert others == [alone[0], *alone[2:]]


async def test_a_stream_beside_single_calls(chat: ChatT2) -> None:
    alone = [chat.invoke(text).content for text in QUESTIONS[:6]]

    async def streamed(text: str) -> str:
        return "".join([chunk.text async for chunk in chat.astream(text)])

    beside = [chat.invoke(text).content for text in ("stream one", "stream an alpha two")]
    *replies, first, second = await asyncio.wait_for(
        asyncio.gather(
            *(chat.ainvoke(text) for text in QUESTIONS[:6]),
            streamed("stream one"),
            streamed("stream an alpha two"),
        ),
        60,
    )
    assert [reply.content for reply in replies] == alone  # type: ignore[union-attr]
    assert [first, second] == beside


async def test_inside_a_context_the_model_stays_adapted(model: T2Model) -> None:
    chat = chat_of(model, dispatch="off")
    alpha = chat.invoke("hello", expert="alpha").content
    assert chat.invoke("hello").content != alpha
    with model.adapted("alpha"):
        assert chat.invoke("hello").content == alpha
        assert (await chat.ainvoke("hello")).content == alpha
    with model.merged("alpha"):  # nobody else may run the model meanwhile
        assert chat.invoke("hello").content == alpha
        assert (await asyncio.wait_for(chat.ainvoke("hello"), 30)).content == alpha
        assert chat.batch(["x", "hello"])[1].content == alpha
        replies = await asyncio.wait_for(chat.abatch(["x", "hello"]), 30)
        assert replies[1].content == alpha


class Asking(WordDispatcher):
    """Asks the model itself, as a router by prompt does."""

    def __init__(self, model: T2Model) -> None:
        super().__init__("alpha", "beta")
        self.chat = chat_of(model, dispatch="off", max_tokens=2)

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        self.chat.invoke("Which one?")
        self.chat.batch(["Which one?", "Sure?"])
        return super().dispatch(requests)


async def test_a_dispatcher_may_ask_the_same_model(model: T2Model, chat: ChatT2) -> None:
    asking = chat_of(model, dispatch=Asking(model))
    alone = [chat.invoke(text).content for text in QUESTIONS[:4]]
    assert asking.invoke(QUESTIONS[0]).content == alone[0]
    replies = await asyncio.wait_for(
        asyncio.gather(*(asking.ainvoke(text) for text in QUESTIONS[:4])), 60
    )
    assert [reply.content for reply in replies] == alone


async def test_cancelling_ends_the_generation_at_once(model: T2Model, steps: Steps) -> None:
    chat = chat_of(model, max_tokens=200)
    right = chat.invoke("hello", max_tokens=12).content
    seconds = []
    for _ in range(3):
        steps.count = 0
        task = asyncio.create_task(chat.ainvoke("hello"))
        while steps.count < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        begun, made = time.perf_counter(), steps.count
        with pytest.raises(asyncio.CancelledError):
            await task
        made = max(made, steps.count)
        await chat.ainvoke("hello", max_tokens=1)  # its turn comes when the cancelled one ends
        seconds.append(time.perf_counter() - begun)
        assert steps.count <= made + 3
        assert (await chat.ainvoke("hello", max_tokens=12)).content == right
    assert min(seconds) < 0.2


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_closing_a_stream_ends_the_generation_at_once(
    model: T2Model, steps: Steps, way: str
) -> None:
    chat = chat_of(model, max_tokens=200)
    right = chat.invoke("hello", max_tokens=12).content
    seconds = []
    for _ in range(3):
        if way == "sync":
            stream: Any = chat.stream("hello")
            next(stream)
            begun = time.perf_counter()
            await asyncio.to_thread(stream.close)
        else:
            stream = chat.astream("hello")
            await anext(stream)
            begun = time.perf_counter()
            await stream.aclose()
        made = steps.count
        await asyncio.to_thread(settle)
        seconds.append(time.perf_counter() - begun)
        assert steps.count <= made + 2
        assert chat.invoke("hello", max_tokens=12).content == right
    assert min(seconds) < 0.2
