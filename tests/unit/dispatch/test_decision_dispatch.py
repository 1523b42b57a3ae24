"""Dispatch by a decision model, whoever made it."""

from __future__ import annotations

from typing import Any

import pytest

decisions = pytest.importorskip("langchain_core.decisions")

from t2agent.dispatch import CLASSIFIER, DecisionDispatcher, Dispatcher, Request  # noqa: E402
from t2agent.dispatch.decision import NONE  # noqa: E402
from t2agent.dispatch.strategies import make_dispatcher, version_of  # noqa: E402
from t2agent.engine.two_passes import Engine  # noqa: E402
from t2agent.errors import ConfigError  # noqa: E402
from t2agent.experts.card import ExpertCard  # noqa: E402
from t2agent.experts.expert import Mixture  # noqa: E402
from tests.experts import random_expert  # noqa: E402
from tests.models import build_text_model  # noqa: E402
from tests.unit.dispatch.conftest import Cards  # noqa: E402

CARDS = Cards(
    ExpertCard("math", description="Sums and numbers"),
    ExpertCard("code"),
    ExpertCard("read", modality="image"),
    ExpertCard(CLASSIFIER),
)


class Words(decisions.BaseDecisionModel):
    """Finds the option that the state names; none of them is half as sure."""

    model: str = "words"
    seen: list[Any] = []  # noqa: RUF012 - pydantic copies it

    @property
    def _provider(self) -> str:
        return "tests"

    def _classify(self, state: Any, questions: dict[str, Any]) -> Any:
        self.seen.append((state, questions))
        [(name, asked)] = questions.items()
        found = {option: float(option in state) for option in asked.criteria}
        found[NONE] = 0.5
        total = sum(found.values())
        odds = {option: value / total for option, value in found.items()}
        answer = {"type": "choice", "choice": NONE, "confidence": 0.5, "probabilities": odds}
        return decisions.ClassifierResponse(model=self.model, answers={name: answer})


def test_the_most_probable_expert_answers_unless_none_is_meant() -> None:
    words = Words()
    dispatcher = DecisionDispatcher(words, CARDS)
    assert isinstance(dispatcher, Dispatcher)

    math, hi, seen = dispatcher.dispatch(
        [Request("some math"), Request("hi"), Request("read it", images=1)]
    )

    assert math.mixture == Mixture({"math": 1.0})
    assert math.scores == pytest.approx({"code": 0.0, "math": 2 / 3})
    assert (math.in_scope, math.strategy) == (True, "decision")
    assert (math.gate, math.threshold) == (pytest.approx(2 / 3), 0.5)
    assert hi.mixture == Mixture()
    assert (hi.in_scope, hi.gate) == (False, 0.0)
    assert seen.mixture == Mixture({"read": 1.0})
    asked = {state: questions["expert"].criteria for state, questions in words.seen}
    assert list(asked["Request: some math"]) == ["code", "math", NONE]
    assert asked["Request: some math"]["math"] == "Sums and numbers"
    assert "read" in asked["Request with an image: read it"]


def test_the_gate_is_the_probability_of_none() -> None:
    [decision] = DecisionDispatcher(Words(), CARDS, threshold=0.7).dispatch([Request("math")])

    assert not decision.in_scope
    assert decision.mixture == Mixture()


def test_it_chooses_among_the_experts_of_the_model_that_it_is_given_to() -> None:
    model = build_text_model()
    for seed, name in enumerate(("red", "blue")):
        model.registry.register(random_expert(model, name, seed))
    dispatcher = DecisionDispatcher(Words())

    [decision] = Engine(model, dispatcher).decide(["a red one"])
    assert decision.mixture == Mixture({"red": 1.0})
    [decision] = Engine(model, dispatcher, experts=["blue"]).decide(["a red one"])
    assert decision.scores.keys() == {"blue"}
    own = DecisionDispatcher(Words(), CARDS)
    assert make_dispatcher(own, model) is own
    with pytest.raises(ConfigError, match="without experts to choose among"):
        dispatcher.dispatch([Request("a red one")])


def test_an_answer_without_probabilities_is_refused() -> None:
    class Silent(Words):
        def _classify(self, state: Any, questions: dict[str, Any]) -> Any:
            answer = {"type": "choice", "choice": "math", "confidence": 1, "probabilities": {}}
            return decisions.ClassifierResponse(model="m", answers={"expert": answer})

    with pytest.raises(ConfigError, match="Silent answered a choice among code, math"):
        DecisionDispatcher(Silent(), CARDS).dispatch([Request("math")])


def test_what_was_given_is_checked() -> None:
    with pytest.raises(ConfigError, match="give a BaseDecisionModel"):
        DecisionDispatcher("gpt")
    with pytest.raises(ConfigError, match="threshold"):
        DecisionDispatcher(Words(), threshold=0)


def test_versions() -> None:
    words = Words()
    one = version_of(DecisionDispatcher(words, CARDS))
    assert one == version_of(DecisionDispatcher(words, CARDS))
    assert one != version_of(DecisionDispatcher(words, CARDS, threshold=0.6))
    assert one != version_of(DecisionDispatcher(Words(), CARDS))
