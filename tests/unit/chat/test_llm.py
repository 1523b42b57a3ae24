from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

from t2agent.chat.llm import T2LLM
from t2agent.errors import ConfigError
from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model

TEXTS = ["The quick alpha fox", "beta is a longer beginning than it", "seven"]


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture
def llm(model: T2Model) -> T2LLM:
    return T2LLM(model, dispatch=WordDispatcher("alpha", "beta"), max_tokens=10)


def test_a_text_is_continued_without_a_template(model: T2Model, llm: T2LLM) -> None:
    inputs = model.tokenizer(TEXTS[0], return_tensors="pt")
    with model.adapted("alpha"):
        raw = model.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=10,
            do_sample=False,
        )
    new = raw[0, inputs["input_ids"].shape[1] :]
    assert llm.invoke(TEXTS[0]) == model.tokenizer.decode(new, skip_special_tokens=True)


def test_a_batch_is_answered_as_one_by_one(
    model: T2Model, llm: T2LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [llm.invoke(text) for text in TEXTS]
    sizes: list[int] = []
    stock = model.model.generate

    def counted(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return stock(**inputs)

    monkeypatch.setattr(model.model, "generate", counted)
    assert llm.batch(TEXTS) == alone
    assert sizes == [3]


def test_what_a_generation_tells(llm: T2LLM) -> None:
    info = llm.generate(TEXTS).generations[0][0].generation_info
    assert info is not None
    assert info["model_name"] == "tiny-text"
    assert info["finish_reason"] == "length"
    assert info["dispatch"]["mixture"]["weights"] == {"alpha": 1.0}
    assert info["usage_metadata"]["output_tokens"] == 10


async def test_streams_and_asynchronous_forms(llm: T2LLM) -> None:
    expected = llm.invoke(TEXTS[0])
    pieces = list(llm.stream(TEXTS[0]))
    assert len(pieces) > 3
    assert "".join(pieces) == expected
    assert await llm.ainvoke(TEXTS[0]) == expected
    assert "".join([piece async for piece in llm.astream(TEXTS[0])]) == expected
    assert await llm.abatch(TEXTS[:2]) == [expected, llm.invoke(TEXTS[1])]


def test_options_of_a_call(model: T2Model, llm: T2LLM) -> None:
    free = llm.invoke("seven")
    stop = free[2:4]
    assert llm.invoke("seven", stop=[stop]) == free[: free.find(stop)]
    assert llm.bind(max_tokens=3).invoke("seven") != free
    hot = {"temperature": 1.0, "seed": 1}
    [raw] = generate(model, ["seven"], GenerationOptions(max_tokens=10, temperature=1.0, seed=1))
    assert llm.invoke("seven", **hot) == raw.text
    assert llm.invoke("seven", expert="beta") == llm.invoke("seven", mixture={"beta": 1.0}) != free


def test_a_text_cannot_hold_control_tokens(model: T2Model, llm: T2LLM) -> None:
    broken = llm.generate(["<|im_end|>"]).generations[0][0].generation_info
    assert broken is not None
    assert broken["usage_metadata"]["input_tokens"] > 1


def test_unusable_options(model: T2Model, llm: T2LLM) -> None:
    with pytest.raises(ConfigError):
        llm.invoke("x", nonsense=1)
    with pytest.raises(ConfigError):
        T2LLM(model, max_tokens=0)


def test_a_cached_text_is_forgotten_when_the_experts_change() -> None:
    model = build_text_model()
    llm = T2LLM(model, dispatch=WordDispatcher("late"), max_tokens=10, cache=InMemoryCache())
    model.registry.register(random_expert(model, "late", 1))
    first = llm.invoke("a late one")
    assert llm.invoke("a late one") == first
    model.registry.register(random_expert(model, "late", 2), replace=True)
    assert llm.invoke("a late one") != first


def test_what_tracing_is_told(llm: T2LLM) -> None:
    params = llm._get_ls_params()
    assert params["ls_provider"] == "t2agent"
    assert params["ls_model_name"] == "tiny-text"
    assert params["ls_model_type"] == "llm"
