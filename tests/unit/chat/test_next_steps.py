"""The next step of a conversation, of which only what is new is read: the reply stays the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from t2agent.chat.chat_model import ChatT2
from t2agent.models.model import T2Model
from t2agent.models.prefixes import KEPT, PrefixCache
from tests.experts import random_expert
from tests.pictures import image_block

SYSTEM = SystemMessage("You are a careful helper, who says no more than what was asked. " * 12)
ASKED = ("What is 7 * 3 + 12?", "Hello! " * 20, "And what is 4 + 5?")
JSON = {
    "type": "json_schema",
    "json_schema": {
        "name": "sum",
        "schema": {
            "type": "object",
            "properties": {"total": {"type": "integer"}, "unit": {"const": "of nothing at all"}},
            "required": ["total", "unit"],
        },
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"expert": "math"},
    "sampled": {"mixture": {"math": 0.6, "code": 0.4}, "temperature": 0.9, "seed": 3},
    "stopped": {"stop": ["answer"], "dispatch": "off"},
    "json": {"response_format": JSON, "expert": "json"},
    "penalty": {"dispatch": "off", "repetition_penalty": 1.2, "top_logprobs": 3, "logprobs": True},
}


def made(dtype: torch.dtype) -> ChatT2:
    model = T2Model.from_pretrained("t2-nano", dtype=dtype)
    chat = ChatT2(model=model, max_tokens=24, logprobs=True)
    # Whether a mixture is merged, which rounds otherwise, is chosen by measurements of time.
    chat.engine.merging = False
    return chat


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return made(torch.bfloat16)


@contextmanager
def passes(chat: ChatT2) -> Iterator[list[int]]:
    """How many tokens each pass of the model runs."""
    found: list[int] = []
    inner = chat.t2.model.model
    handle = inner.register_forward_pre_hook(
        lambda _module, _args, given: found.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def nothing_known(chat: ChatT2, budget: int = KEPT) -> Iterator[None]:
    own, chat.t2.prefix_cache = chat.t2.prefix_cache, PrefixCache(budget)
    try:
        yield
    finally:
        chat.t2.prefix_cache = own


def told(reply: BaseMessage) -> tuple[Any, ...]:
    """All of a reply but the times and the scores that the first pass measured."""
    assert isinstance(reply, AIMessage)
    known = reply.response_metadata
    return reply.content, reply.usage_metadata, known["finish_reason"], known["logprobs"]


def conversation(reply: Callable[[list[BaseMessage]], BaseMessage]) -> list[Any]:
    messages: list[BaseMessage] = [SYSTEM]
    found = []
    for text in ASKED:
        messages.append(HumanMessage(text))
        messages.append(reply(messages))
        found.append(told(messages[-1]))
    return found


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_reply_is_bit_for_bit_what_it_is_with_nothing_known(
    chat: ChatT2, options: dict[str, Any]
) -> None:
    same_as_with_nothing_known(chat, options)


def test_it_is_in_float32() -> None:
    same_as_with_nothing_known(made(torch.float32), OPTIONS["sampled"])


def same_as_with_nothing_known(chat: ChatT2, options: dict[str, Any]) -> None:
    with nothing_known(chat, budget=0), passes(chat) as whole:
        wanted = conversation(lambda messages: chat.invoke(messages, **options))
        assert chat.t2.prefix_cache.bytes == 0
    with passes(chat) as read:
        assert conversation(lambda messages: chat.invoke(messages, **options)) == wanted
    assert 0 < chat.t2.prefix_cache.bytes < KEPT
    again = chat.get_num_tokens_from_messages([SYSTEM])  # at two of the three steps
    assert sum(read) < sum(whole) - 1.5 * again


def test_every_way_to_ask_reads_what_is_new_alone(chat: ChatT2) -> None:
    messages = [SYSTEM, HumanMessage(ASKED[0])]
    whole = chat.get_num_tokens_from_messages(messages)

    def streamed(messages: list[BaseMessage]) -> BaseMessage:
        chunks = list(chat.stream(messages))
        return sum(chunks[1:], start=chunks[0])

    ways: list[Callable[[list[BaseMessage]], BaseMessage]] = [
        chat.invoke,
        streamed,
        lambda messages: asyncio.run(chat.ainvoke(messages)),
        lambda messages: chat.batch([messages])[0],
    ]
    with nothing_known(chat):
        for way in ways:
            with passes(chat) as read:
                reply = way(messages)
            if way == chat.invoke:
                wanted, first = reply.content, read
            assert reply.content == wanted
            assert (sum(read) < whole / 2 + 24) == (way != chat.invoke)
    assert sum(first) >= whole


def test_what_another_mixture_read_is_not_taken(chat: ChatT2) -> None:
    messages = [SYSTEM, HumanMessage(ASKED[0])]
    whole = chat.get_num_tokens_from_messages(messages)

    def reads(**options: Any) -> bool:
        with passes(chat) as read:
            chat.invoke(messages, max_tokens=1, **options)
        return sum(read) >= whole

    registry = chat.t2.registry
    registry.register(random_expert(chat.t2, "mine"))
    try:
        with nothing_known(chat):
            assert reads(expert="mine")
            assert not reads(expert="mine")
            assert reads(mixture={"mine": 0.5})
            assert reads(dispatch="off")
            registry.register(random_expert(chat.t2, "mine", seed=1), replace=True)
            assert reads(expert="mine")
            with torch.no_grad():
                next(iter(registry.get("mine").z.values())).mul_(1.01)
            assert reads(expert="mine")
            assert not reads(expert="mine")
    finally:
        registry.unregister("mine")


def test_nothing_is_kept_of_images_or_inside_of_what_the_caller_adapts(chat: ChatT2) -> None:
    image = HumanMessage([image_block("red"), {"type": "text", "text": "What is this?"}])
    with nothing_known(chat):
        chat.invoke([SYSTEM, image], max_tokens=1, dispatch="off")
        with chat.t2.adapted("math"):
            chat.invoke([SYSTEM, HumanMessage("Hello")], max_tokens=1, dispatch="off")
        with chat.t2.merged("math"):
            chat.invoke([SYSTEM, HumanMessage("Hello")], max_tokens=1, dispatch="off")
        assert chat.t2.prefix_cache.bytes == 0


def test_threads_at_once(chat: ChatT2) -> None:
    asked = [[SYSTEM, HumanMessage(f"What is {n} + {n}?")] for n in range(8)]

    def content(messages: list[BaseMessage]) -> str:
        return "".join(str(chunk.content) for chunk in chat.stream(messages, max_tokens=8))

    with nothing_known(chat, budget=0):
        wanted = list(map(content, asked))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(content, asked)) == wanted


def test_packed_weights_after_what_is_known(smollm2: str) -> None:
    chat = ChatT2(model=smollm2, max_tokens=6, logprobs=True, dispatch=None)
    first = [SYSTEM, HumanMessage("Hello!")]
    second = [*first, AIMessage("Hello!"), HumanMessage("Which colour has the sky?")]
    with nothing_known(chat, budget=0):
        wanted = told(chat.invoke(second))
    chat.invoke(first, max_tokens=1)
    with passes(chat) as read:
        assert told(chat.invoke(second)) == wanted
    assert sum(read) < wanted[1]["input_tokens"] / 2
