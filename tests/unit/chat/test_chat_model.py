from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from PIL import Image

from t2agent.chat.chat_model import ChatT2
from t2agent.engine import two_passes
from t2agent.errors import (
    ConfigError,
    ContextLengthError,
    ExpertNotFoundError,
    ImageRefusedError,
    ModalityError,
)
from t2agent.experts.expert import Expert, Mixture
from t2agent.models.generate import Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.experts import WordDispatcher, random_expert
from tests.models import CONTEXT, build_text_model, build_vision_model

QUESTIONS = ["an alpha one", "a beta one, longer than it", "another", "alpha again"]


def with_experts(model: T2Model) -> T2Model:
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture(scope="module")
def model() -> T2Model:
    return with_experts(build_text_model())


@pytest.fixture(scope="module")
def vision() -> T2Model:
    return with_experts(build_vision_model())


def chat_of(model: T2Model, **fields: Any) -> ChatT2:
    fields = {"dispatch": WordDispatcher("alpha", "beta"), "max_tokens": 12, **fields}
    return ChatT2(model, **fields)


@pytest.fixture
def chat(model: T2Model) -> ChatT2:
    return chat_of(model)


def image_block(colour: str) -> dict[str, str]:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}


def weights(message: AIMessage) -> dict[str, float]:
    return message.response_metadata["dispatch"]["mixture"]["weights"]  # type: ignore[no-any-return]


def test_a_reply_and_what_it_tells(model: T2Model, chat: ChatT2) -> None:
    reply = chat.invoke("an alpha one")
    with model.adapted("alpha"):
        [raw] = generate(model, [Prompt.user("an alpha one")], GenerationOptions(max_tokens=12))
    assert reply.content == raw.text
    assert reply.usage_metadata == {
        "input_tokens": raw.prompt_tokens,
        "output_tokens": 12,
        "total_tokens": raw.prompt_tokens + 12,
    }
    metadata = reply.response_metadata
    assert metadata["model_name"] == "tiny-text"
    assert metadata["finish_reason"] == "length"
    assert json.loads(json.dumps(metadata["dispatch"])) == metadata["dispatch"]
    assert set(metadata["dispatch"]) == {
        "strategy", "mixture", "scores", "in_scope", "seconds", "gate", "threshold",
    }  # fmt: skip
    assert weights(reply) == {"alpha": 1.0}


def test_the_share_of_the_first_pass(model: T2Model) -> None:
    for chat in (chat_of(model), chat_of(model, dispatch="off")):
        for reply in chat.batch(QUESTIONS[:2]):
            told = reply.response_metadata
            first, second = told["dispatch"]["seconds"], told["seconds"]
            assert second > 0
            assert told["first_pass_share"] == pytest.approx(first / (first + second))
    streamed = list(chat_of(model).stream(QUESTIONS[0]))[-1].response_metadata
    assert 0 < streamed["first_pass_share"] < 1


QUICK = {"iterations": 0, "climb": 0, "scales": (), "max_tokens": 4, "progress": False}


def test_adapting_to_a_task() -> None:
    model = with_experts(build_text_model())
    chat = chat_of(model, dispatch="few-shot", experts=["alpha", "beta"])
    with pytest.raises(ConfigError, match=r"call chat\.adapt\(examples\)"):
        chat.invoke("Hi")
    with model.adapted("beta"):
        beta = generate(model, [Prompt.user("Hi")], GenerationOptions(max_tokens=4))[0].text
    unnamed = chat.adapt([("Hi", beta)], **QUICK)
    assert unnamed == Mixture({"beta": 1.0})
    assert chat.invoke("Hi").response_metadata["dispatch"]["mixture"]["weights"] == {"beta": 1.0}
    # One object's task is not another's.
    with pytest.raises(ConfigError):
        chat_of(model, dispatch="few-shot").invoke("Hi")

    own = chat_of(model, dispatch="few-shot", experts=["alpha", "beta"])
    before = own._identifying_params
    assert own.adapt([("Hi", beta)], name="greet", **QUICK) == unnamed
    assert "greet" in chat.registry
    assert own._identifying_params != before
    reply = own.invoke("anything")
    assert weights(reply) == {"greet": 1.0}
    assert reply.content == chat.invoke("anything").content


def test_unusable_options_of_adapting(chat: ChatT2) -> None:
    for wrong, says in (
        ({"bogus": 1}, "unknown option"),
        ({"population": 0}, "population"),
        ({"reward": "nearly"}, "'exact', 'contains'"),
    ):
        with pytest.raises(ConfigError, match=says):
            chat.adapt([("Hi", "x")], progress=False, **wrong)
    with pytest.raises(ConfigError, match="pairs"):
        chat.adapt("Hi", progress=False)


def test_the_conversation_counts(chat: ChatT2) -> None:
    one = chat.invoke(
        [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Yes?"), ("user", "x")]
    )
    other = chat.invoke(
        [SystemMessage("Be long."), HumanMessage("Hi"), AIMessage("Yes?"), ("user", "x")]
    )
    assert one.content != other.content


def test_a_batch_is_one_batch_with_a_mixture_for_each_row(
    chat: ChatT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [chat.invoke(question) for question in QUESTIONS]
    sizes = _batch_sizes(monkeypatch)
    replies = chat.batch(QUESTIONS)  # type: ignore[arg-type]
    assert sizes == [4]
    assert [reply.content for reply in replies] == [reply.content for reply in alone]
    assert [weights(reply) for reply in replies] == [
        {"alpha": 1.0},
        {"beta": 1.0},
        {},
        {"alpha": 1.0},
    ]
    assert len({reply.id for reply in replies}) == 4


async def test_an_asynchronous_batch_is_one_batch(
    chat: ChatT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [chat.invoke(question).content for question in QUESTIONS * 3]
    sizes = _batch_sizes(monkeypatch)
    replies = await chat.abatch(QUESTIONS * 3)  # type: ignore[arg-type]
    assert sizes == [12]
    assert [reply.content for reply in replies] == alone


def test_a_batch_in_parts(chat: ChatT2, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = _batch_sizes(monkeypatch)
    chat.batch(QUESTIONS, {"max_concurrency": 3})  # type: ignore[arg-type]
    assert sizes == [3, 1]
    assert chat.batch([]) == []


def test_one_bad_input_does_not_spoil_a_batch(chat: ChatT2) -> None:
    bad = [HumanMessage([image_block("red")]), "word " * CONTEXT]
    good = chat.invoke("an alpha one").content
    replies: list[Any] = chat.batch(
        [[bad[0]], "an alpha one", bad[1]],  # type: ignore[list-item]
        return_exceptions=True,
    )
    assert isinstance(replies[0], ModalityError)
    assert replies[1].content == good
    assert isinstance(replies[2], ContextLengthError)
    with pytest.raises(ContextLengthError):
        chat.batch(["an alpha one", "word " * CONTEXT])


def test_a_batch_keeps_callbacks_and_cache(model: T2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counter(BaseCallbackHandler):
        ended = 0

        def on_llm_end(self, *_args: Any, **_kwargs: Any) -> None:
            self.ended += 1

    counter = Counter()
    chat = chat_of(model, cache=InMemoryCache())
    chat.invoke(QUESTIONS[0])
    sizes = _batch_sizes(monkeypatch)
    replies = chat.batch(QUESTIONS, {"callbacks": [counter]})  # type: ignore[arg-type]
    assert sizes == [3]
    assert counter.ended == 4
    assert len(replies) == 4


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_what_a_failed_batch_leaves_unfinished_is_not_cached(
    model: T2Model, way: str
) -> None:
    class Failing(BaseCallbackHandler):
        raise_error = True

        def on_chat_model_start(self, *_args: Any, **_kwargs: Any) -> None:
            raise ValueError("not this one")

    chat = chat_of(model, cache=InMemoryCache())
    whole = chat_of(model).invoke("an alpha one")
    batch: tuple[Any, Any] = ["hello", "an alpha one"], [{"callbacks": [Failing()]}, {}]
    if way == "sync":
        with pytest.raises(ValueError, match="not this one"):
            chat.batch(*batch)
    else:
        with pytest.raises(ValueError, match="not this one"):
            await chat.abatch(*batch)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=10)
    assert chat.invoke("an alpha one").content == whole.content


def test_a_stream_is_the_reply(chat: ChatT2) -> None:
    chunks = list(chat.stream("an alpha one"))
    reply = chat.invoke("an alpha one")
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert len(chunks) > 4
    assert whole.content == reply.content
    assert whole.usage_metadata == reply.usage_metadata
    assert whole.response_metadata["finish_reason"] == "length"
    assert weights(whole) == weights(reply)  # type: ignore[arg-type]
    assert [chunk.usage_metadata is not None for chunk in chunks].count(True) == 1
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]


async def test_asynchronous_forms(chat: ChatT2) -> None:
    reply = chat.invoke("an alpha one")
    assert (await chat.ainvoke("an alpha one")).content == reply.content
    chunks = [chunk async for chunk in chat.astream("an alpha one")]
    assert "".join(chunk.text for chunk in chunks) == reply.content
    assert chunks[-1].chunk_position == "last"
    events = [event async for event in chat.astream_events("an alpha one", version="v2")]
    assert events[-1]["data"]["output"].content == reply.content


def test_closing_a_stream_ends_the_generation(model: T2Model) -> None:
    steps = _Steps(model)
    stream = chat_of(model, max_tokens=200).stream("hello")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert _settled(steps) < 50


async def test_cancelling_a_task_ends_the_generation(model: T2Model) -> None:
    steps = _Steps(model)
    task = asyncio.create_task(chat_of(model, max_tokens=200).ainvoke("hello"))
    while not steps.count:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(_settled, steps) < 100


async def test_leaving_an_asynchronous_stream_ends_the_generation(model: T2Model) -> None:
    steps = _Steps(model)
    stream = chat_of(model, max_tokens=200).astream("hello")
    async for _chunk in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(_settled, steps) < 100


async def test_cancelling_a_batch_ends_the_generation(model: T2Model) -> None:
    steps = _Steps(model)
    task = asyncio.create_task(chat_of(model, max_tokens=200).abatch(["hello", "you"]))
    while not steps.count:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(_settled, steps) < 100


def test_options_of_a_call_and_bound_ones(chat: ChatT2) -> None:
    free = chat.invoke("hello")
    stop = str(free.content)[3:5]
    stopped = chat.invoke("hello", stop=[stop])
    assert stopped.content == str(free.content)[: str(free.content).find(stop)]
    assert stopped.response_metadata["finish_reason"] == "stop"
    assert chat.bind(stop=[stop]).invoke("hello").content == stopped.content
    assert chat.batch(["hello", "hello"], stop=[stop])[1].content == stopped.content
    assert chat.invoke("hello", max_tokens=2).usage_metadata["output_tokens"] == 2  # type: ignore[index]
    hot = {"temperature": 1.0, "seed": 3}
    assert chat.invoke("hello", **hot).content == chat.bind(**hot).invoke("hello").content
    assert chat.invoke("hello", **hot).content != free.content
    assert chat.invoke("hello", **{**hot, "seed": 4}).content != chat.invoke("hello", **hot).content


def test_choosing_the_expert(model: T2Model, chat: ChatT2) -> None:
    beta = chat.invoke("hello", expert="beta")
    assert weights(beta) == {"beta": 1.0}
    assert (
        chat.bind(expert="beta").invoke("an alpha one").content
        != chat.invoke("an alpha one").content
    )
    assert chat.invoke("hello", mixture={"beta": 1.0}).content == beta.content
    assert weights(chat.invoke("an alpha one", dispatch="off")) == {}
    assert (
        chat.batch(["a", "b"], expert="beta")[1].content == chat.invoke("b", expert="beta").content
    )
    assert "".join(c.text for c in chat.stream("hello", expert="beta")) == beta.content


@pytest.mark.parametrize(
    "given",
    [
        {"expert": "alpha", "mixture": {"beta": 1.0}},
        {"expert": "alpha", "dispatch": "off"},
        {"nonsense": 1},
        {"temperature": -1.0},
        {"max_tokens": 0},
        {"dispatch": "nonsense"},
    ],
)
def test_unusable_options_of_a_call(chat: ChatT2, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        chat.invoke("hello", **given)
    with pytest.raises(ConfigError):
        list(chat.stream("hello", **given))
    with pytest.raises(ConfigError):
        chat.batch(["hello", "you"], **given)


def test_an_unknown_expert(chat: ChatT2) -> None:
    with pytest.raises(ExpertNotFoundError):
        chat.invoke("hello", expert="delta")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "hot"},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"max_tokens": 0},
        {"dispatch": "nonsense"},
        {"nonsense": 1},
        {"seed": -1},
    ],
)
def test_unusable_fields(model: T2Model, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ChatT2(model, **fields)


def test_an_unknown_model() -> None:
    with pytest.raises(ConfigError, match="no-such-model"):
        ChatT2("/no/where/no-such-model")


def test_images_in_all_forms(vision: T2Model) -> None:
    chat = chat_of(vision)
    text = {"type": "text", "text": "What is it?"}
    block = image_block("red")
    url = f"data:image/png;base64,{block['base64']}"
    forms = [block, {"type": "image_url", "image_url": {"url": url}}, {"type": "image", "url": url}]
    replies = [chat.invoke([HumanMessage([form, text])]) for form in forms]  # type: ignore[list-item]
    assert len({reply.content for reply in replies}) == 1
    assert replies[0].content != chat.invoke([HumanMessage([image_block("blue"), text])]).content
    assert replies[0].content != chat.invoke("What is it?").content
    batch = chat.batch([[HumanMessage([block, text])], "a beta one"])
    assert batch[0].content == replies[0].content
    assert batch[1].content == chat.invoke("a beta one").content
    assert chat.profile is not None
    assert chat.profile["image_inputs"]


def test_images_from_elsewhere_need_leave(vision: T2Model, tmp_path: Any) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    message = HumanMessage([{"type": "image", "url": path.as_uri()}, {"type": "text", "text": "x"}])
    with pytest.raises(ImageRefusedError, match="allow_image_files"):
        chat_of(vision).invoke([message])
    red = HumanMessage([image_block("red"), {"type": "text", "text": "x"}])  # type: ignore[list-item]
    allowed = chat_of(vision, allow_image_files=True)
    assert allowed.invoke([message]).content == allowed.invoke([red]).content


def test_an_image_for_a_text_model(chat: ChatT2) -> None:
    with pytest.raises(ModalityError):
        chat.invoke([HumanMessage([image_block("red")])])  # type: ignore[list-item]


def test_a_cached_reply_is_forgotten_when_the_experts_change() -> None:
    model = build_text_model()
    chat = chat_of(model, dispatch=WordDispatcher("late"), cache=InMemoryCache())
    model.registry.register(random_expert(model, "late", 1))
    first = chat.invoke("a late one")
    steps = _Steps(model)
    assert chat.invoke("a late one").content == first.content
    assert steps.count == 0
    model.registry.register(random_expert(model, "late", 2), replace=True)
    assert chat.invoke("a late one").content != first.content
    given = random_expert(model, "mine", 3), random_expert(model, "mine", 4)
    replies = [chat.invoke("hello", expert=expert).content for expert in given]
    assert replies[0] != replies[1]


def test_the_cache_key_holds_what_changes_an_answer(model: T2Model) -> None:
    chats = [
        chat_of(model),
        chat_of(model, max_tokens=13),
        chat_of(model, temperature=1.0),
        chat_of(model, seed=1),
        chat_of(model, top_p=0.5),
        chat_of(model, stop=["x"]),
        chat_of(model, dispatch="off"),
    ]
    keys = {chat._get_llm_string() for chat in chats}
    assert len(keys) == len(chats)


def test_what_tracing_is_told(chat: ChatT2) -> None:
    params = chat._get_ls_params(stop=["x"], temperature=0.5)
    assert params == {
        "ls_provider": "t2agent",
        "ls_model_type": "chat",
        "ls_model_name": "tiny-text",
        "ls_temperature": 0.5,
        "ls_max_tokens": 12,
        "ls_stop": ["x"],
    }


def test_dispatch_by_embedding() -> None:
    model = build_text_model()
    for name, examples in {
        "cooking": ("How long do I boil an egg?", "A recipe for onion soup, please", "Bake bread"),
        "travel": ("Which train goes to Rome?", "Book a hotel by the sea", "A visa for Japan"),
    }.items():
        expert = random_expert(model, name)
        model.registry.register(Expert(replace(expert.card, examples=examples), expert.z))
    chat = ChatT2(model, max_tokens=4)
    cook, traveller = chat.batch(["How do I boil potatoes?", "Is there a night train to Vienna?"])
    for reply, name in ((cook, "cooking"), (traveller, "travel")):
        scores = reply.response_metadata["dispatch"]["scores"]
        assert max(scores, key=scores.__getitem__) == name
        assert reply.response_metadata["dispatch"]["strategy"] == "embedding"
    only = ChatT2(model, experts=["travel"], max_tokens=4).invoke("How do I boil potatoes?")
    assert set(only.response_metadata["dispatch"]["scores"]) <= {"travel"}


def test_its_parts_can_be_reached(model: T2Model, chat: ChatT2) -> None:
    assert chat.t2 is model
    assert chat.registry is model.registry


def _batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []

    def counted(model: T2Model, prompts: list[Prompt], *args: Any, **options: Any) -> Any:
        sizes.append(len(prompts))
        return generate(model, prompts, *args, **options)

    monkeypatch.setattr(two_passes, "generate", counted)
    return sizes


class _Steps:
    """Counts the forward passes of a model."""

    def __init__(self, model: T2Model) -> None:
        self.count = 0
        model.model.lm_head.register_forward_hook(self._see)

    def _see(self, *_args: object) -> None:
        self.count += 1


def _settled(steps: _Steps) -> int:
    """The number of steps when no more are made."""
    made = -1
    while made != steps.count:
        made = steps.count
        time.sleep(0.2)
    return made


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("t2agent") and thread.name != "t2agent-gathering":
            thread.join(5)
            assert not thread.is_alive()


def test_chunks_are_typed(chat: ChatT2) -> None:
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chat.stream("hello"))
