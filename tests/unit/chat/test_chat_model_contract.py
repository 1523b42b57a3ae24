"""What LangChain expects of a chat model besides answers."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.load import dumpd, dumps, loads
from langchain_core.outputs import LLMResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.llm import T2LLM
from t2agent.dispatch.dispatcher import Adapted
from t2agent.errors import ConfigError, ExpertNotFoundError, NotCopyableError
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.model import T2Model
from tests.experts import WordDispatcher, random_expert
from tests.models import CONTEXT, build_text_model, tiny_vision_model


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


def chat_of(model: T2Model, **fields: Any) -> ChatT2:
    return ChatT2(model, **{"dispatch": WordDispatcher("alpha", "beta"), "max_tokens": 8, **fields})


@pytest.fixture
def chat(model: T2Model) -> ChatT2:
    return chat_of(model)


FIELDS = ("temperature", "max_tokens", "dispatch", "expert", "seed", "stop")


def test_fields_can_be_configured(chat: ChatT2) -> None:
    runnable = chat.configurable_fields(**{name: ConfigurableField(id=name) for name in FIELDS})
    for given in (
        {},
        {"max_tokens": 3},
        {"temperature": 1.0, "seed": 4},
        {"dispatch": "off"},
        {"expert": "beta"},
        {"stop": ["e"]},
    ):
        reply = runnable.invoke("an alpha one", {"configurable": given})
        expected = chat.invoke("an alpha one", **given)  # type: ignore[arg-type]
        assert reply.content == expected.content
        told, known = reply.response_metadata["dispatch"], expected.response_metadata["dispatch"]
        assert told["mixture"] == known["mixture"]


def test_a_configured_copy_shares_model_and_dispatcher() -> None:
    loaded = ChatT2(build_text_model(), max_tokens=2)
    runnable = loaded.configurable_fields(
        max_tokens=ConfigurableField(id="max_tokens"), dispatch=ConfigurableField(id="dispatch")
    )
    copies = [
        runnable._prepare({"configurable": given})[0]  # type: ignore[attr-defined]
        for given in ({"max_tokens": 3}, {"dispatch": "off"}, {"dispatch": "embedding"})
    ]
    assert all(one.t2 is loaded.t2 for one in copies)
    assert copies[0].engine is copies[2].engine is loaded.engine
    assert copies[1].engine.dispatcher is None
    assert loaded.engine.dispatcher is not None


def test_other_experts_or_another_model_make_another_engine(model: T2Model) -> None:
    chat = chat_of(model, experts=["alpha"])
    given = {"engine": chat.engine, "dispatch": chat.dispatch}
    assert ChatT2(model, **given, experts=["alpha"]).engine is chat.engine
    assert ChatT2(model, **given, experts=["beta"]).engine is not chat.engine
    assert ChatT2(build_text_model(), **given, experts=None).engine is not chat.engine


def test_alternatives_can_be_configured(model: T2Model, chat: ChatT2) -> None:
    runnable = chat.configurable_alternatives(
        ConfigurableField(id="model"), default_key="usual", beta=chat_of(model, expert="beta")
    )
    assert runnable.invoke("hello").content == chat.invoke("hello").content
    chosen = runnable.with_config(configurable={"model": "beta"}).invoke("hello")
    assert chosen.content == chat.invoke("hello", expert="beta").content


def test_an_expert_for_all_requests(model: T2Model, chat: ChatT2) -> None:
    always = chat_of(model, expert="beta")
    assert always.invoke("hello").content == chat.invoke("hello", expert="beta").content
    # A call's own choice goes before it.
    other = always.invoke("an alpha one", dispatch=chat.dispatch)
    assert other.content == chat.invoke("an alpha one").content
    with pytest.raises(ExpertNotFoundError):
        chat_of(model, expert="delta").invoke("hello")


def lookup(word: str) -> str:
    """Look it up."""
    return word


JSON = {"type": "json_object"}


def test_a_cache_tells_calls_apart() -> None:
    model = build_text_model(context=1024)
    for name in ("alpha", "beta"):
        model.registry.register(random_expert(model, name))
    cache = InMemoryCache()
    chat = chat_of(model, cache=cache, max_tokens=40)
    ways: list[Any] = [
        chat,
        chat.bind(max_tokens=3),
        chat.bind(temperature=1.0, seed=1),
        chat.bind(stop=["e"]),
        chat.bind(expert="beta"),
        chat.bind(dispatch="off"),
        chat.bind(mixture={"alpha": 0.5}),
        chat.bind_tools([lookup]),
        chat.bind_tools([lookup], tool_choice="any"),
        chat.bind(response_format=JSON),
        chat_of(model, cache=cache, max_tokens=40, expert="beta"),
    ]
    for count, way in enumerate(ways, 1):
        fresh = way.invoke("hello")
        assert len(cache._cache) == count
        assert way.invoke("hello").content == fresh.content
        assert len(cache._cache) == count


def test_a_caches_key_follows_the_strategy_of_a_call(model: T2Model) -> None:
    chat = chat_of(model)
    before = chat._get_llm_string(dispatch="few-shot")
    assert before == chat._get_llm_string(dispatch="few-shot")
    chat.engine.strategies.latest.found = Adapted(Mixture({"alpha": 0.5}), ExpertCard("examples"))
    assert chat._get_llm_string(dispatch="few-shot") != before
    own = [chat._get_llm_string(dispatch=WordDispatcher()) for _ in range(2)]
    assert own[0] != own[1]


async def test_a_call_cannot_name_a_model_that_is_not_allowed(model: T2Model) -> None:
    chat = chat_of(model, allow_models=False)
    for call in (chat.invoke, lambda text, **more: list(chat.stream(text, **more))):
        with pytest.raises(ConfigError, match="allow_models"):
            call("hello", model="t2-nano")
    with pytest.raises(ConfigError, match="allow_models"):
        await chat.ainvoke("hello", model="t2-nano")
    assert chat.invoke("hello", model=model.name).content == chat.invoke("hello").content


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_new_expert_makes_an_old_reply_stale(asynchronous: bool) -> None:
    model = build_text_model()
    chat = chat_of(model, cache=InMemoryCache(), dispatch="embedding")

    async def ask() -> Any:
        question = "How do I boil an egg?"
        return await chat.ainvoke(question) if asynchronous else chat.invoke(question)

    assert (await ask()).response_metadata["dispatch"]["mixture"]["weights"] == {}
    expert = random_expert(model, "cooking", 1)
    examples = ("How do I boil an egg?", "A recipe for soup", "How long do potatoes take?")
    model.registry.register(Expert(replace(expert.card, examples=examples), expert.z))
    assert (await ask()).response_metadata["dispatch"]["mixture"]["weights"] == {"cooking": 1.0}
    model.registry.unregister("cooking")
    assert (await ask()).response_metadata["dispatch"]["mixture"]["weights"] == {}


def test_copies_share_the_model(chat: ChatT2) -> None:
    for other in (copy.copy(chat), chat.model_copy(), chat.model_copy(update={"max_tokens": 3})):
        assert other.t2 is chat.t2
    assert chat.model_copy(update={"max_tokens": 3}).invoke("x").usage_metadata == (
        chat.invoke("x", max_tokens=3).usage_metadata
    )


@pytest.mark.parametrize("kind", [ChatT2, T2LLM])
def test_pickling_and_deep_copies_are_refused(model: T2Model, kind: Any) -> None:
    one = kind(model, dispatch="off")
    for attempt in (lambda: pickle.dumps(one), lambda: copy.deepcopy(one)):
        with pytest.raises(NotCopyableError, match="holds a loaded base model"):
            attempt()
    with pytest.raises(NotCopyableError):
        copy.deepcopy({"inside": [one]})
    with pytest.raises(NotCopyableError):
        one.model_copy(deep=True)


def test_it_is_not_serialised(chat: ChatT2) -> None:
    told = dumpd(chat)
    assert told["type"] == "not_implemented"
    assert told["id"] == ["t2agent", "chat", "chat_model", "ChatT2"]
    assert len(json.dumps(told)) < 4000
    with pytest.raises(NotImplementedError):
        loads(dumps(chat), allowed_objects="core")


def test_a_rate_limit_is_kept(model: T2Model) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1e-3, max_bucket_size=2)
    limiter.available_tokens = 2.0
    chat = chat_of(model, rate_limiter=limiter, cache=InMemoryCache())
    chat.invoke("one")
    chat.invoke("one")  # from the cache
    list(chat.stream("two"))
    assert limiter.available_tokens < 1
    assert not limiter.acquire(blocking=False)


class Seen(BaseCallbackHandler):
    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.pieces: list[str] = []
        self.ended: list[LLMResult] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        self.started = more

    def on_llm_new_token(self, token: str, **_more: Any) -> None:
        self.pieces.append(token)

    def on_llm_end(self, response: LLMResult, **_more: Any) -> None:
        self.ended.append(response)

    def on_llm_error(self, error: BaseException, **_more: Any) -> None:
        self.errors.append(error)


def decision(seen: Seen) -> dict[str, Any]:
    message = seen.ended[0].generations[0][0].message  # type: ignore[union-attr]
    return message.response_metadata["dispatch"]  # type: ignore[no-any-return]


def test_what_callbacks_are_told(chat: ChatT2) -> None:
    seen = Seen()
    reply = chat.invoke("an alpha one", {"callbacks": [seen], "metadata": {"mine": 1}})
    assert seen.started["metadata"]["ls_provider"] == "t2agent"
    assert seen.started["metadata"]["ls_model_name"] == "tiny-text"
    assert seen.started["metadata"]["mine"] == 1
    assert seen.started["invocation_params"]["model_name"] == "tiny-text"
    assert decision(seen) == reply.response_metadata["dispatch"]
    assert decision(seen)["mixture"]["weights"] == {"alpha": 1.0}
    assert seen.pieces == []


def test_callbacks_see_each_piece_of_a_stream(chat: ChatT2) -> None:
    seen = Seen()
    chunks = list(chat.stream("an alpha one", {"callbacks": [seen]}))
    assert seen.pieces == [chunk.text for chunk in chunks]
    assert len([piece for piece in seen.pieces if piece]) > 3
    assert decision(seen)["mixture"]["weights"] == {"alpha": 1.0}


async def test_asynchronous_callbacks_see_each_piece(chat: ChatT2) -> None:
    class Asynchronous(AsyncCallbackHandler):
        pieces: list[str] = []  # noqa: RUF012

        async def on_llm_new_token(self, token: str, **_more: Any) -> None:
            self.pieces.append(token)

    handler = Asynchronous()
    chunks = [chunk async for chunk in chat.astream("hello", {"callbacks": [handler]})]
    assert handler.pieces == [chunk.text for chunk in chunks]


def test_with_streaming_on_a_single_call_hands_out_its_pieces(model: T2Model) -> None:
    seen = Seen()
    reply = chat_of(model, streaming=True).invoke("an alpha one", {"callbacks": [seen]})
    assert "".join(seen.pieces) == reply.content
    assert reply.content == chat_of(model).invoke("an alpha one").content
    assert decision(seen) == reply.response_metadata["dispatch"]


def test_callbacks_are_told_of_errors(chat: ChatT2) -> None:
    seen = Seen()
    with pytest.raises(ExpertNotFoundError):
        chat.invoke("hello", {"callbacks": [seen]}, expert="delta")
    with pytest.raises(ExpertNotFoundError):
        list(chat.stream("hello", {"callbacks": [seen]}, expert="delta"))
    assert [type(error) for error in seen.errors] == [ExpertNotFoundError] * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another base model, as a checkpoint."""
    other = build_text_model(seed=1)
    place = tmp_path_factory.mktemp("other-model")
    other.model.save_pretrained(place)
    other.tokenizer.save_pretrained(place)
    return place


async def test_a_call_can_name_another_model(chat: ChatT2, folder: Path) -> None:
    name = str(folder)
    alone = ChatT2(name, dispatch=chat.dispatch, max_tokens=8)
    expected = alone.invoke("hello")
    assert expected.content != chat.invoke("hello").content
    replies = [
        chat.invoke("hello", model=name),
        await chat.bind(model=name).ainvoke("hello"),
        *chat.batch(["hello", "x"], model=name),
    ]
    assert [reply.content for reply in replies[:3]] == [expected.content] * 3
    assert {reply.response_metadata["model_name"] for reply in replies} == {name}
    chunks = list(chat.stream("hello", model=name))
    assert "".join(chunk.text for chunk in chunks) == expected.content
    assert chunks[-1].response_metadata["model_name"] == name
    assert chat.other(name) is chat.other(name)  # loaded once
    assert chat.invoke("hello", model="tiny-text").content == chat.invoke("hello").content
    assert chat.invoke("hello", model=alone.t2).content == expected.content
    with pytest.raises(ConfigError, match="no such folder"):
        chat.invoke("hello", model="/no/such/model")


def test_what_the_profile_says(chat: ChatT2) -> None:
    assert chat.profile is not None
    assert chat.profile["max_input_tokens"] == CONTEXT
    assert chat.profile["tool_calling"]
    assert chat.profile["structured_output"]
    assert set(chat.profile) <= set(ModelProfile.__annotations__)
    assert not chat.profile["image_inputs"]
    sees = ChatT2(tiny_vision_model(), dispatch="off").profile
    assert sees is not None
    assert sees["image_inputs"]
    assert sees["image_tool_message"]
    assert not sees["image_url_inputs"]
    allowed = ChatT2(tiny_vision_model(), dispatch="off", allow_image_urls=True).profile
    assert allowed is not None
    assert allowed["image_url_inputs"]
    given = ChatT2(tiny_vision_model(), dispatch="off", profile={"max_input_tokens": 7})
    assert given.profile == {"max_input_tokens": 7}


def test_the_profile_says_where_system_messages_stand() -> None:
    key = "mid_conversation_system_messages"
    if key not in ModelProfile.__annotations__:
        pytest.skip("langchain-core is older than this key")
    refusing = (
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('system comes first') }}{% endif %}<s>{{ m.role }}\n"
        "{% for part in m.content %}{{ part.text }}{% endfor %}</s>{% endfor %}<s>assistant\n"
    )
    found = []
    for template in (None, refusing):
        model = build_text_model()
        model.tokenizer.chat_template = template or model.tokenizer.chat_template
        found.append((ChatT2(model, dispatch="off").profile or {})[key])
    assert found == [True, False]


def test_init_chat_model_has_no_entry_for_others() -> None:
    """If LangChain gains one, ours is to be added, and the docstring of ChatT2 to be changed."""
    with pytest.raises(ValueError, match="Unsupported provider='t2agent'"):
        init_chat_model("t2-nano", model_provider="t2agent")
