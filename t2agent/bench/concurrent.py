"""Sixteen requests at once to one ChatT2, dispatched to different experts, against one by one.

Figures wanted, for replies of 100 tokens: at least 4 times the throughput, and each reply equal to
the one that the request gets alone. Requests are unseen ones of t2-nano's tasks, made as so many
asyncio tasks and dispatched by embedding, which is part of the time on both sides.

"own_length" is the same with replies that end where they end. There a batch gains less: it lasts as
long as its longest reply, most are shorter, and encoding the requests costs the same in a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from t2agent.bench.shapes import endless, ratio
from t2agent.chat.chat_model import ChatT2
from t2agent.models.model import T2Model
from t2agent.nano.tasks import TASKS

_TASKS = ("math", "code", "reasoning", "json")


def run(requests: int = 16, repeats: int = 5, tokens: int = 100) -> dict[str, Any]:
    """Seconds both ways, taken in turn, the median of their ratios, and the share of replies that
    are equal."""
    model = T2Model.from_pretrained("t2-nano")
    chat = ChatT2(model, max_tokens=tokens)
    each = -(-requests // len(_TASKS))
    samples = [TASKS[name].sample(each, seed=0, split="test") for name in _TASKS]
    asked = [example.prompt for row in zip(*samples, strict=True) for example in row]
    own_length = measure(chat, asked[:requests], repeats)
    endless(model)
    return {**measure(chat, asked[:requests], repeats), "own_length": own_length}


def measure(chat: ChatT2, requests: Sequence[str], repeats: int) -> dict[str, Any]:
    """The same for any model and requests."""

    def alone() -> list[Any]:
        return [chat.invoke(request) for request in requests]

    async def at_once() -> list[Any]:
        return await asyncio.gather(*(chat.ainvoke(request) for request in requests))

    alone(), asyncio.run(at_once())  # what is made on first use
    one_by_one, together, equal, experts = [], [], [], set[str]()
    for _ in range(repeats):
        begun = time.perf_counter()
        expected = alone()
        middle = time.perf_counter()
        replies = asyncio.run(at_once())
        one_by_one.append(middle - begun)
        together.append(time.perf_counter() - middle)
        equal += [a.content == b.content for a, b in zip(replies, expected, strict=True)]
        for reply in replies:
            experts.update(reply.response_metadata["dispatch"]["mixture"]["weights"])
    return {
        "threads": torch.get_num_threads(),
        "requests": len(requests),
        "experts": len(experts),
        "one_by_one_seconds": median(one_by_one),
        "together_seconds": median(together),
        "throughput_ratio": ratio(one_by_one, together),
        "equal": sum(equal) / len(equal),
    }
