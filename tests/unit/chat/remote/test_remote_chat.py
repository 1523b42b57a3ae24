"""ChatT2Remote over HTTP, with t2-nano at the other end: its answers are those of ChatT2."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
import time
import warnings
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import ConfigurableField

from t2agent import ChatT2, ChatT2Remote, T2Middleware
from t2agent.nano.tasks import TASKS
from t2agent.toolbox import load_tools
from tests.openai_server import KEY, OpenAIServer
from tests.remote_models import CODE, MATH, STRANGE, block, joined, remote


def told(message: AIMessage) -> tuple[Any, ...]:
    """What must not depend on where the model is."""
    dispatch = message.response_metadata["dispatch"]
    return (
        message.content,
        [(call["name"], call["args"]) for call in message.tool_calls],
        message.usage_metadata,
        message.response_metadata["finish_reason"],
        dispatch["mixture"],
        dispatch["strategy"],
        dispatch["in_scope"],
    )


def test_answers_are_those_of_the_model_itself(local: ChatT2, chat: ChatT2Remote) -> None:
    [example] = TASKS["read"].sample(1, seed=3, split="test")
    assert example.image is not None
    seen = [HumanMessage([{"type": "text", "text": example.prompt}, block(example.image)])]
    asked: list[Any] = [MATH, CODE, STRANGE, [SystemMessage("Be brief."), HumanMessage(MATH)], seen]
    for question in asked:
        wanted = told(local.invoke(question))
        reply = chat.invoke(question)
        assert told(reply) == wanted
        assert told(joined(list(chat.stream(question)))) == wanted
        dispatch = reply.response_metadata["dispatch"]
        assert set(dispatch) == {
            "strategy", "mixture", "scores", "in_scope", "seconds", "gate", "threshold",
        }  # fmt: skip
        assert json.loads(json.dumps(reply.response_metadata)) == reply.response_metadata
    assert reply.response_metadata["model_name"] == "read"
    assert reply.response_metadata["served"] == {"model": "read", "expert": "read", "exact": True}
    assert 0 < reply.response_metadata["first_pass_share"] < 1


async def test_and_asynchronously(local: ChatT2, chat: ChatT2Remote) -> None:
    wanted = told(local.invoke(MATH))
    assert told(await chat.ainvoke(MATH)) == wanted
    assert told(joined([chunk async for chunk in chat.astream(MATH)])) == wanted
    replies = await chat.abatch([MATH, CODE, STRANGE])
    assert [told(one)[4]["weights"] for one in replies] == [{"math": 1.0}, {"code": 1.0}, {}]


def test_a_batch(local: ChatT2, chat: ChatT2Remote, server: OpenAIServer) -> None:
    asked = [MATH, CODE, STRANGE, MATH]
    assert [told(one) for one in chat.batch(asked)] == [told(local.invoke(one)) for one in asked]
    assert sorted(one["model"] for one in server.requests) == [
        "code",
        "math",
        "math",
        "t2-nano",
    ]
    assert server.listed == 1


def test_an_agent_whose_model_is_elsewhere(server: OpenAIServer) -> None:
    tools = load_tools("calculator")
    agent = create_agent(remote(server), tools, middleware=[T2Middleware()])
    state = agent.invoke({"messages": [("user", "Compute 54 * 37, then add 13.")]})
    assert any(message.type == "tool" for message in state["messages"])
    assert state["t2_decisions"][0]["mixture"]["weights"] == {"tools": 1.0}


def test_closing_a_stream_ends_the_generation(server: OpenAIServer) -> None:
    server.pause = 0.05
    stream = remote(server).stream(MATH)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert server.closed.wait(10)


async def test_cancelling_a_task_does_so_too(server: OpenAIServer) -> None:
    server.pause = 0.05
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in remote(server).astream(MATH):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.closed.wait, 10)


def test_pieces_come_as_they_are_made(server: OpenAIServer) -> None:
    server.pause, server.newline = 0.05, b"\r\n"
    times = [time.monotonic() for _ in remote(server).stream(MATH)]
    assert len(times) > 5
    assert times[-1] - times[0] > 0.04 * (len(times) - 3)


def test_the_cache_knows_what_an_answer_depends_on(server: OpenAIServer) -> None:
    chat = remote(server, cache=InMemoryCache())
    first = chat.invoke(MATH)
    assert chat.invoke(MATH).content == first.content
    assert len(server.requests) == 1
    chat.invoke(MATH, expert="code")
    chat.invoke(MATH, max_tokens=5)
    chat.invoke(CODE)
    server.experts["more"] = "math"
    chat.refresh()
    chat.invoke(MATH)
    assert len(server.requests) == 5


def test_copies(server: OpenAIServer) -> None:
    chat = remote(server, api_key=KEY)
    chat.invoke(MATH)
    for other in (copy.copy(chat), copy.deepcopy(chat), chat.model_copy()):
        assert other.router is chat.router
    again = pickle.loads(pickle.dumps(chat))
    assert again.route(MATH).model == "math"
    assert again.api_key.get_secret_value() == KEY


def test_configurable_fields_share_what_is_known(server: OpenAIServer) -> None:
    chat = remote(server).configurable_fields(
        temperature=ConfigurableField("heat"), dispatch=ConfigurableField("who")
    )
    for who, model in (("embedding", "math"), ("off", "t2-nano")):
        reply = chat.invoke(MATH, {"configurable": {"heat": 0.0, "who": who}})
        assert reply.response_metadata["served"]["model"] == model
    assert server.listed == 1


def test_threads(local: ChatT2, server: OpenAIServer) -> None:
    chat, found = remote(server), []
    wanted = told(local.invoke(MATH))
    threads = [
        threading.Thread(target=lambda: found.append(told(chat.invoke(MATH)))) for _ in range(6)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [wanted] * 6
    assert server.listed == 1
