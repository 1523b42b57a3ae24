"""LangChain's caches: whatever an answer depends on changes the key, field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from PIL import Image

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.llm import T2LLM
from t2agent.chat.settings import OPTIONS
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.engine.reply_form import FIELDS
from t2agent.errors import ImageRefusedError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model, build_vision_model, save_bfloat16

# What changes no answer: LangChain's own, and what only says how an answer is handed out.
NO_ANSWER = {
    "cache", "callbacks", "custom_get_token_ids", "disable_streaming", "engine", "metadata", "name",
    "profile", "rate_limiter", "streaming", "tags", "verbose",
}  # fmt: skip
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}


def experts(model: T2Model) -> None:
    for seed, name in enumerate(("alpha", "beta")):
        given = random_expert(model, name, seed)
        card = dataclasses.replace(given.card, examples=(f"{name} one", f"{name} two"))
        model.registry.register(Expert(card, given.z))


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    experts(model)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    save_bfloat16(folder)
    return str(folder)


def key(chat: Any, **options: Any) -> str:
    """The key that a call is kept under."""
    cache = InMemoryCache()
    chat.cache = cache
    chat.invoke("Hi", **options)
    [(_, name)] = cache._cache
    return str(name)


FIELD_VALUES: dict[str, Any] = {
    "dispatch": "off",
    "experts": ["beta"],
    "expert": "beta",
    "temperature": 0.5,
    "max_tokens": 3,
    "top_p": 0.5,
    "stop": ["z"],
    "seed": 1,
    "allow_image_urls": True,
    "allow_image_files": True,
    "allow_models": False,
    "max_tools": 1,
    "output_version": "v1",
    "quantized": False,
    "top_k": 2,
    "min_p": 0.5,
    "repetition_penalty": 1.5,
    "num_beams": 2,
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "reasoning": True,
}
BY_NAME = {"model", "dtype", "device_map"}  # what a loaded model has in itself


@pytest.mark.parametrize("kind", [ChatT2, T2LLM])
def test_every_field_is_in_the_key(kind: type[Any], model: T2Model) -> None:
    assert set(FIELD_VALUES) | BY_NAME | NO_ANSWER >= set(kind.model_fields)
    plain = {"dispatch": WordDispatcher("alpha"), "max_tokens": 2}
    first = key(kind(model, **plain))
    assert key(kind(model, **plain)) == first
    for name in set(kind.model_fields) & set(FIELD_VALUES):
        assert key(kind(model, **{**plain, name: FIELD_VALUES[name]})) != first, name


@pytest.mark.parametrize("kind", [ChatT2, T2LLM])
def test_the_base_model_is_in_the_key(kind: type[Any], checkpoint: str) -> None:
    plain: dict[str, Any] = {"dispatch": "off", "max_tokens": 2}
    first = key(kind(checkpoint, **plain))
    assert key(kind(checkpoint, **plain)) == first
    both = [key(kind(checkpoint, **plain, dtype=dtype)) for dtype in ("float32", "bfloat16")]
    assert both[0] != both[1]
    assert key(kind(build_text_model(seed=1), **plain)) != first


OPTION_VALUES: dict[str, Any] = {
    "temperature": 0.5,
    "max_tokens": 3,
    "top_p": 0.5,
    "top_k": 2,
    "min_p": 0.5,
    "repetition_penalty": 1.5,
    "num_beams": 2,
    "seed": 1,
    "expert": "beta",
    "mixture": {"alpha": 0.5},
    "dispatch": "off",
    "stop": ["z"],
}
CHAT_VALUES: dict[str, Any] = {
    "max_tools": 1,
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "reasoning": True,
    "tools": [TOOL],
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "on_misfit": "keep",
    "response_format": {"type": "json_object"},
}


@pytest.mark.parametrize("kind", [ChatT2, T2LLM])
def test_every_option_of_a_call_is_in_the_key(kind: type[Any], model: T2Model) -> None:
    assert set(OPTION_VALUES) == {*OPTIONS, "stop"}
    assert set(CHAT_VALUES) == {*FIELDS, *ChatT2._more}
    chat = kind(model, dispatch=WordDispatcher("alpha"), max_tokens=2)
    first = key(chat)
    assert key(chat) == first
    values = {**OPTION_VALUES, **(CHAT_VALUES if kind is ChatT2 else {})}
    keys = [first, *(key(chat, **{name: value}) for name, value in values.items())]
    assert len(set(keys)) == len(keys)


def test_experts_of_a_call_are_told_by_their_content(model: T2Model) -> None:
    for kind in (ChatT2, T2LLM):
        chat = kind(model, dispatch="off", max_tokens=2)
        one, same, other = (random_expert(model, "mine", seed) for seed in (5, 5, 6))
        assert key(chat, expert=one) == key(chat, expert=same) != key(chat, expert=other)
        for setting in ({"caution": 1.0}, {"beams": 2}):
            changed = Expert(dataclasses.replace(one.card, **setting), one.z)  # type: ignore[arg-type]
            assert key(chat, expert=changed) != key(chat, expert=one)


def test_fitted_dispatchers_are_told_apart(model: T2Model) -> None:
    chat = ChatT2(model, dispatch="off", max_tokens=2)

    def fitted(**examples: list[str]) -> EmbeddingDispatcher:
        return EmbeddingDispatcher().fit(examples)

    one = fitted(alpha=["plus", "minus"], beta=["write", "sort"])
    other = fitted(beta=["plus", "minus"], alpha=["write", "sort"])
    keys = {key(chat, dispatch=d) for d in (one, other)}
    keys |= {
        key(chat, dispatch=EmbeddingDispatcher(model.registry, scope_threshold=t)) for t in (1, 2)
    }
    assert len(keys) == 4


def template(model: T2Model) -> None:
    model.tokenizer.chat_template = (
        "{% for m in messages %}{{ 'Q: ' + m['content'] }}{% endfor %}A:"
    )


def penalty(model: T2Model) -> None:
    model.model.generation_config.repetition_penalty = 5.0


def another(model: T2Model) -> None:
    model.registry.register(random_expert(model, "gamma", 9))


def more_tokens(model: T2Model) -> None:
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})


@pytest.mark.parametrize("change", [template, penalty, another, more_tokens])
def test_what_changes_with_the_model(change: Callable[[T2Model], None]) -> None:
    model = build_text_model()
    experts(model)
    chat = ChatT2(model, dispatch="off", max_tokens=2)
    first = key(chat)
    change(model)
    assert key(chat) != first


def test_another_model_for_one_call_is_told_by_its_own_experts(checkpoint: str) -> None:
    chat = ChatT2(build_text_model(seed=2), dispatch="off", max_tokens=2)
    first = key(chat, model=checkpoint)
    assert first != key(chat)
    other = chat.other(checkpoint)
    other.registry.register(random_expert(other.t2, "late", 3))
    assert key(chat, model=checkpoint) != first


@pytest.mark.parametrize("form", ["path", "url"])
async def test_an_image_is_told_by_its_content(form: str, tmp_path: Path) -> None:
    model = build_vision_model()
    file = tmp_path / "image.png"
    place = str(file) if form == "path" else file.as_uri()
    message = [HumanMessage([{"type": "text", "text": "what"}, {"type": "image", form: place}])]
    cache = InMemoryCache()
    chat = ChatT2(model, dispatch="off", max_tokens=4, allow_image_files=True, cache=cache)
    kept = []
    for color in ("red", "white", "red"):
        Image.new("RGB", (8, 8), color).save(file)
        chat.invoke(message)
        await chat.ainvoke(message)
        kept.append(len(cache._cache))
    assert kept == [1, 2, 2]


def test_an_image_that_may_not_be_read_is_no_hit(tmp_path: Path) -> None:
    model, cache = build_vision_model(), InMemoryCache()
    file = tmp_path / "image.png"
    Image.new("RGB", (8, 8), "red").save(file)
    message = [HumanMessage([{"type": "image", "path": str(file)}])]
    plain: dict[str, Any] = {"dispatch": "off", "max_tokens": 4, "cache": cache}
    ChatT2(model, allow_image_files=True, **plain).invoke(message)
    with pytest.raises(ImageRefusedError):
        ChatT2(model, **plain).invoke(message)
