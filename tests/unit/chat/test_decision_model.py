"""T2DecisionModel as LangChain uses it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tracers.schemas import Run

decisions = pytest.importorskip("langchain_core.decisions")

from t2agent import T2DecisionModel  # noqa: E402
from t2agent.errors import (  # noqa: E402
    ConfigError,
    ExpertNotFoundError,
    ImageRefusedError,
    ModalityError,
    NotCopyableError,
)
from t2agent.models.model import T2Model  # noqa: E402
from tests.experts import WordDispatcher, random_expert  # noqa: E402
from tests.models import build_text_model, tiny_vision_model  # noqa: E402
from tests.pictures import image_block  # noqa: E402

TEAM = decisions.Choice(instructions="Who helps?", criteria={"sales": "buys", "post": None})
ANGER = decisions.Score(instructions="How angry?", criteria=["calm", "cross", "furious"])
URGENT = decisions.Noul(instructions="Is it urgent?")


@pytest.fixture(scope="module")
def base() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("red", "blue")):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture(scope="module")
def model(base: T2Model) -> T2DecisionModel:
    return T2DecisionModel(base, dispatch="off")


def odds(model: Any, state: Any, **options: Any) -> dict[str, float]:
    asked = {"state": state, "questions": {"team": TEAM}}
    return dict(model.invoke(asked, **options).choices["team"].probabilities)


def test_typed_answers(model: T2DecisionModel) -> None:
    asked = {"team": TEAM, "anger": ANGER, "urgent": URGENT}
    found = model.invoke({"state": "Where is my parcel?", "questions": asked})

    team, anger = found.choices["team"], found.scores["anger"]
    assert team.choice == max(team.probabilities, key=team.probabilities.__getitem__)
    assert team.probabilities.keys() == {"sales", "post"}
    assert sum(anger.probabilities.values()) == pytest.approx(1)
    assert anger.legend == {0: "calm", 1: "cross", 2: "furious"}
    assert 0 < found.nouls["urgent"].noul < 1
    assert found.model == model.model == model.t2.name
    assert found.usage is not None
    assert found.usage["input_tokens"] == found.usage["total_tokens"] > 0


async def test_awaited_and_in_batches_it_is_the_same(model: T2DecisionModel) -> None:
    asked = {"state": "Hello", "questions": {"team": TEAM}}

    one = model.invoke(asked)
    assert await model.ainvoke(asked) == one
    assert model.batch([asked, asked]) == [one, one]


def test_who_answers(base: T2Model, model: T2DecisionModel) -> None:
    red, blue, off = (odds(model, "It is red", expert=name) for name in ("red", "blue", None))
    assert red != pytest.approx(blue, rel=1e-2)
    assert off == odds(model, "It is red")
    assert odds(T2DecisionModel(base, expert="red"), "It is red") == pytest.approx(red)
    assert odds(model.bind(mixture={"blue": 1.0}), "It is red") == pytest.approx(blue)
    by_word = WordDispatcher("red", "blue")
    assert odds(model, "It is red", dispatch=by_word) == pytest.approx(red)
    assert odds(T2DecisionModel(base, dispatch=by_word), "a blue one") == pytest.approx(
        odds(model, "a blue one", expert="blue")
    )
    with pytest.raises(ExpertNotFoundError, match="green"):
        odds(model, "Hello", expert="green")
    with pytest.raises(ConfigError, match=r"temperature.*a call takes expert"):
        odds(model, "Hello", temperature=1.0)
    with pytest.raises(ConfigError, match="give one of them"):
        odds(model, "Hello", expert="red", dispatch="off")


def test_states(model: T2DecisionModel) -> None:
    text = odds(model, "Where is it?")
    assert odds(model, HumanMessage("Where is it?")) == text
    assert odds(model, HumanMessage([{"type": "text", "text": "Where is it?"}])) == text
    talk = [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("Where is it?")]
    assert odds(model, talk) == odds(model, "user: Hi\n\nassistant: Hello\n\nuser: Where is it?")
    deep = {"talk": talk[:1], "n": [1, None, True]}
    assert odds(model, deep) == odds(
        model, '{"talk": [{"role": "user", "content": "Hi"}], "n": [1, null, true]}'
    )


def test_images_anywhere() -> None:
    model = T2DecisionModel(tiny_vision_model(), dispatch="off")
    red, blue = image_block("red"), image_block("blue")

    for wrap in (
        lambda image: HumanMessage([image, {"type": "text", "text": "this"}]),
        lambda image: {"photo": image, "n": 1},
    ):
        assert odds(model, wrap(red)) == pytest.approx(odds(model, wrap(red)))
        assert odds(model, wrap(red)) != pytest.approx(odds(model, wrap(blue)), rel=1e-4)
    asked = decisions.Score(instructions="Which?", criteria=[red, "none"])
    found = model.invoke({"state": "Hello", "questions": {"q": asked}}).scores["q"]
    assert found.legend == {0: red, 1: "none"}
    with pytest.raises(ImageRefusedError, match="allow_image_urls"):
        odds(model, {"photo": {"type": "image", "url": "https://example.org/a.png"}})


def test_what_cannot_be_asked(model: T2DecisionModel) -> None:
    box = decisions.Box(instructions="the cat")
    with pytest.raises(ConfigError, match="asks for a box"):
        model.invoke({"state": "Hello", "questions": {"q": box}})
    with pytest.raises(ConfigError, match="at least 1"):
        model.invoke({"state": "Hello", "questions": {}})
    with pytest.raises(ModalityError, match="reads text only"):
        odds(model, {"photo": image_block("red")})
    sound = {"type": "audio", "base64": "AA==", "mime_type": "audio/wav"}
    for heard in ({"a": sound}, HumanMessage([sound])):
        with pytest.raises(ModalityError, match="audio"):
            odds(model, heard)
    with pytest.raises(ConfigError, match="is no JSON"):
        odds(model, {"what": object()})


def test_what_langchain_does_with_it(base: T2Model, model: T2DecisionModel) -> None:
    changing = model.configurable_fields(expert=ConfigurableField("expert"))
    changed = changing.with_config(configurable={"expert": "red"})
    assert odds(changed, "Hello") == pytest.approx(odds(model, "Hello", expert="red"))
    assert copy.copy(model).t2 is base
    with pytest.raises(NotCopyableError, match="T2DecisionModel cannot be copied deeply"):
        copy.deepcopy(model)

    runs: list[Run] = []
    heard = model.with_listeners(on_end=runs.append)
    odds(heard, "Hello")
    told = (runs[0].extra or {})["metadata"]
    assert told["ls_provider"] == "t2agent"
    assert told["ls_model_name"] == base.name


def test_options_are_checked(base: T2Model) -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        T2DecisionModel(base, temperature=1.0)
    with pytest.raises(ConfigError, match="no dispatch strategy 'best'"):
        T2DecisionModel(base, dispatch="best")


@pytest.mark.usefixtures("smollm2")
def test_the_real_model_tells_spam_from_a_message() -> None:
    model = T2DecisionModel("smollm2", expert="label")
    spam = decisions.Choice(
        instructions="What kind of message is this?", criteria={"spam": None, "normal": None}
    )
    texts = ("WINNER! Claim your FREE prize now, call 0900 123", "Ok, see you at lunch then")

    found = [
        model.invoke({"state": text, "questions": {"q": spam}}).choices["q"].probabilities["spam"]
        for text in texts
    ]

    assert found[0] > found[1] + 0.1
