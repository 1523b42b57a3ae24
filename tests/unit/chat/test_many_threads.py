"""Ten threads with every kind of call to one model: none stops, each reply is the sequential one.

Some seconds with one seed here; `T2AGENT_SOAK=60 pytest tests/unit/chat/test_many_threads.py` runs
a minute with each of three seeds.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.llm import T2LLM
from t2agent.dispatch import Request
from t2agent.models.model import T2Model
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model

SECONDS = float(os.environ.get("T2AGENT_SOAK", "6"))
SEEDS = range(3 if "T2AGENT_SOAK" in os.environ else 1)
STUCK = (
    90.0  # seconds that a call may take on a busy machine, a measurement of the model among them
)

TEXTS = [
    f"{word} {n}" for n in range(3) for word in ("an alpha one", "a beta one, longer", "other")
]


class Place(BaseModel):
    """A place."""

    floor: int
    open: bool


def look(x: int) -> str:
    """Look at x."""
    return str(x)


def calls(model: T2Model) -> dict[str, Callable[[str], Any]]:
    """Kinds of call: each a function of a text whose result depends on nothing else."""
    fields: dict[str, Any] = {"dispatch": WordDispatcher("alpha", "beta"), "max_tokens": 12}
    chat, llm = ChatT2(model, **fields), T2LLM(model, **fields)
    alone = ChatT2(model, **{**fields, "dispatch": "off"})
    tools = chat.bind_tools([look], tool_choice="any")
    shaped = chat.with_structured_output(Place, include_raw=True)

    def streamed(text: str) -> str:
        return "".join(str(chunk.content) for chunk in chat.stream(text))

    async def astreamed(text: str) -> str:
        return "".join([str(chunk.content) async for chunk in chat.astream(text)])

    def broken_off(text: str) -> str:
        stream = chat.stream(text)
        first = str(next(stream).content)
        stream.close()  # type: ignore[attr-defined]
        return first

    async def cancelled(text: str) -> str:
        task = asyncio.create_task(chat.ainvoke(text, max_tokens=100))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ""

    def owning(text: str) -> str:
        with model.merged("beta"):
            return str(alone.invoke(text).content)

    def adapting(text: str) -> list[int]:
        ids = model.tokenizer(text, return_tensors="pt")
        with model.adapted("alpha"):
            return model.model.generate(**ids, max_new_tokens=6, do_sample=False)[0].tolist()

    async def gathered(text: str) -> list[str]:
        both = await asyncio.gather(chat.ainvoke(text), chat.ainvoke("an alpha one"))
        return [str(reply.content) for reply in both]

    def texts(replies: Any) -> list[str]:
        return [str(reply.content) for reply in replies]

    return {
        "invoke": lambda text: chat.invoke(text).content,
        "expert": lambda text: chat.invoke(text, expert="alpha").content,
        "mixture": lambda text: chat.invoke(text, mixture={"alpha": 0.5, "beta": 0.5}).content,
        "sampled": lambda text: chat.invoke(text, temperature=1.0, seed=7).content,
        "ainvoke": lambda text: asyncio.run(chat.ainvoke(text)).content,
        "gather": lambda text: asyncio.run(gathered(text)),
        "stream": streamed,
        "astream": lambda text: asyncio.run(astreamed(text)),
        "broken off": broken_off,
        "cancelled": lambda text: asyncio.run(cancelled(text)),
        "batch": lambda text: texts(chat.batch([text, "a beta one", text])),
        "abatch": lambda text: texts(asyncio.run(chat.abatch([text, "a beta one"]))),
        "tools": lambda text: [(c["name"], c["args"]) for c in tools.invoke(text).tool_calls],
        "structured": lambda text: shaped.invoke(text)["raw"].content,  # type: ignore[index]
        "completion": llm.invoke,
        "completions": lambda text: llm.batch([text, "a beta one"]),
        "merged": owning,
        "adapted": adapting,
        "dispatch": lambda text: chat.engine.dispatcher.dispatch([Request(text)])[0].mixture,  # type: ignore[union-attr]
        "tokens": lambda text: chat.get_num_tokens(text),
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_ten_threads_of_every_kind_of_call(seed: int) -> None:
    expected_of, model = build_text_model(seed, context=512), build_text_model(seed, context=512)
    for place, name in enumerate(("alpha", "beta")):
        for one in (expected_of, model):
            one.registry.register(random_expert(one, name, place))
    expected = {
        (kind, text): call(text) for kind, call in calls(expected_of).items() for text in TEXTS
    }
    kinds = calls(model)  # a model that has not been measured or decomposed yet
    until = time.monotonic() + SECONDS
    wrong: list[Any] = []
    done = dict.fromkeys(kinds, 0)
    busy: dict[int, tuple[str, float]] = {}

    def work(number: int) -> None:
        draw = random.Random(1000 * seed + number)
        while time.monotonic() < until:
            kind, text = draw.choice(list(kinds)), draw.choice(TEXTS)
            busy[number] = kind, time.monotonic()
            try:
                got = kinds[kind](text)
            except Exception as error:
                wrong.append((kind, text, repr(error)))
                return
            if got != expected[kind, text]:
                wrong.append((kind, text, got, expected[kind, text]))
            done[kind] += 1
        del busy[number]

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()) + STUCK)
    if stuck := [busy.get(n) for n, thread in enumerate(threads) if thread.is_alive()]:
        faulthandler.dump_traceback(all_threads=True)
        pytest.fail(f"stopped: {stuck}; done before: {done}")
    assert not wrong, wrong[:3]
    assert sum(done.values()) > 20
