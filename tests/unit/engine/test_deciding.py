"""Typed decisions: the probabilities are the model's own, calibrated as the module says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from PIL import Image

from t2agent.engine import deciding as module
from t2agent.engine.deciding import answer_questions
from t2agent.engine.two_passes import Engine, Given
from t2agent.errors import ConfigError, ContextLengthError, ModalityError
from t2agent.models.likelihood import answer_tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model, tiny_text_model, tiny_vision_model

TEAM = {"type": "choice", "instructions": "Who helps?", "criteria": {"sales": None, "the post": ""}}
URGENT = {"type": "noul", "instructions": "Is it urgent?", "criteria": {"true": "today"}}
ANGER = {"type": "score", "instructions": "How angry?", "criteria": ["calm", "cross", "furious"]}
ASKED = {"team": TEAM, "urgent": URGENT, "anger": ANGER}


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("red", "blue")):
        model.registry.register(random_expert(model, name, seed))
    return model


def plainly(model: T2Model, state: str, text: str, options: tuple[str, ...]) -> list[float]:
    """Probabilities by one unpadded, uncached pass for each option and state."""

    def likelihood(state: str, reply: tuple[int, ...]) -> float:
        asked = f"{state}\n\n{text}" if state else text
        prompt = encode(model, [Prompt.user(asked)])["input_ids"][0].tolist()
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
        odds = logits[len(prompt) - 1 : -1].log_softmax(-1)
        return sum(float(row[token]) for row, token in zip(odds, reply, strict=True))

    scores = []
    for option in options:
        reply = answer_tokens(model, option)
        free = sum(likelihood(nothing, reply) for nothing in ("", "N/A", "...")) / 3
        scores.append((likelihood(state, reply) - free) / len(reply))
    total = sum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


def test_the_probabilities_are_the_models(model: T2Model) -> None:
    found = answer_questions(Engine(model, "off"), "Where is it?", ASKED).answers

    wanted = plainly(
        model,
        "Where is it?",
        "Who helps? Which of these labels fits: sales, the post? Answer with the label only.",
        ("sales", "the post"),
    )
    assert list(found["team"]["probabilities"].values()) == pytest.approx(wanted, rel=1e-3)
    wanted = plainly(
        model,
        "Where is it?",
        "Is it urgent? Which of these labels fits:\n- yes: today\n- no\n"
        "Answer with the label only.",
        ("yes", "no"),
    )
    assert found["urgent"] == {"type": "noul", "noul": pytest.approx(wanted[0], rel=1e-3)}
    levels = found["anger"]["probabilities"]
    assert sum(levels.values()) == pytest.approx(1)
    assert found["anger"]["score"] == pytest.approx(levels["1"] + 2 * levels["2"])
    assert found["anger"]["legend"] == {"0": "calm", "1": "cross", "2": "furious"}


def test_each_question_is_answered_by_its_own_mixture(model: T2Model) -> None:
    asked = {
        name: {**TEAM, "instructions": f"Is this {word} now?"}
        for name, word in (("one", "red"), ("two", "blue"), ("none", "green"))
    }

    found = answer_questions(Engine(model, WordDispatcher("red", "blue")), "Hello", asked)

    assert [one["weights"] for one in found.mixtures.values()] == [{"red": 1.0}, {"blue": 1.0}, {}]
    for name, what in (("one", "red"), ("two", "blue"), ("none", None)):
        alone = answer_questions(
            Engine(model, "off"), "Hello", {name: asked[name]}, choice=Given(what)
        )
        assert alone.answers[name]["probabilities"] == pytest.approx(
            found.answers[name]["probabilities"], rel=1e-3
        )
    other = answer_questions(Engine(model, "off"), "Hello", {"one": asked["one"]})
    assert other.answers["one"]["probabilities"] != pytest.approx(
        found.answers["one"]["probabilities"], rel=1e-2
    )


def test_what_is_thought_without_a_state_is_asked_once(
    model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    real = module.log_likelihoods

    def counting(model: T2Model, prompts: Any, completions: Any) -> Any:
        scored.append(len(completions))
        return real(model, prompts, completions)

    monkeypatch.setattr(module, "log_likelihoods", counting)
    engine, asked = Engine(model, "off"), {"q": {**TEAM, "instructions": "Who is new?"}}
    first, second = (answer_questions(engine, "Hello", asked).answers for _ in range(2))
    answer_questions(engine, "Hello", asked, choice=Given("red"))

    assert scored == [2 * 4, 2, 2 * 4]
    assert first["q"]["probabilities"] == pytest.approx(second["q"]["probabilities"], rel=1e-4)


def test_images_are_seen_where_their_placeholders_stand() -> None:
    model = tiny_vision_model()
    engine = Engine(model, "off")

    def odds(colour: str, state: str = "photo: <p>, what is it?") -> dict[str, float]:
        images = {"<p>": Image.new("RGB", (32, 32), colour)}
        found = answer_questions(engine, state, {"team": TEAM}, images=images)
        return dict(found.answers["team"]["probabilities"])

    assert odds("red") == pytest.approx(odds("red"))
    assert odds("red") != pytest.approx(odds("blue"), rel=1e-4)
    assert odds("red", "no photo") == pytest.approx(odds("blue", "no photo"))
    parts, images = module.split_at("a img-10 b img-1", {"img-1": 1, "img-10": 10})  # type: ignore[dict-item]
    assert [part.get("text") for part in parts] == ["a ", None, " b ", None]
    assert images == [10, 1]


def test_a_model_that_does_not_see_says_so() -> None:
    images = {"<p>": Image.new("RGB", (8, 8))}
    with pytest.raises(ModalityError, match="reads text only"):
        answer_questions(Engine(tiny_text_model(), "off"), "<p>", {"team": TEAM}, images=images)


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        ({}, "at least 1"),
        ({"q": {**TEAM, "criteria": {}}}, r"q\.choice\.criteria is \{\}"),
        ({"q": {**TEAM, "criteria": {" ": None}}}, "q.choice.criteria"),
        ({"q": {**ANGER, "criteria": []}}, "q.score.criteria"),
        ({"q": {**ANGER, "criteria": {"a": 1}}}, "must be a valid list"),
        ({"q": {"type": "box", "instructions": "Where?"}}, "'noul', 'choice', 'score'"),
        ({"q": "Is it?"}, "q is 'Is it\\?'"),
        ({"q": {**URGENT, "criteria": {"maybe": "x"}}}, "maybe"),
        ({"q": {**TEAM, "more": 1}}, "more"),
        ({"q": {**TEAM, "criteria": {"a": float("nan")}}}, "is no JSON"),
    ],
)
def test_bad_questions(questions: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        answer_questions(Engine(tiny_text_model(), "off"), "Hello", questions)


def test_what_is_too_long_is_refused() -> None:
    engine = Engine(tiny_text_model(), "off")
    with pytest.raises(ContextLengthError, match="shorten"):
        answer_questions(engine, "word " * 4000, {"team": TEAM})
    long = {**TEAM, "criteria": {"a": None, "very " * 200: None}}
    with pytest.raises(ContextLengthError, match="shorten"):
        answer_questions(engine, "word " * 10, {"team": long})
