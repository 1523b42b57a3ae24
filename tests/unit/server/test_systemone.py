"""/v1/systemone: its shapes are those of `transformers serve`."""

from __future__ import annotations

from typing import Any

import pytest

from t2agent.engine.two_passes import Engine, Given
from t2agent.errors import ConfigError, ImageRefusedError
from t2agent.server.systemone import SystemOneRequest, systemone
from tests.experts import random_expert
from tests.models import build_text_model, tiny_text_model, tiny_vision_model
from tests.pictures import png

QUESTIONS: dict[str, Any] = {
    "team": {"type": "choice", "instructions": "Who?", "criteria": {"sales": "buys", "post": None}},
    "one": {"type": "choice", "criteria": {"only": None}},
    "spam": {"type": "noul", "instructions": {"ask": "Is it spam?"}},
    "mood": {
        "type": "score",
        "instructions": "How angry?",
        "criteria": ["calm", "cross", {"x": 1}],
    },
}
BODY: dict[str, Any] = {"model": "m", "state": {"text": "Win!"}, "questions": QUESTIONS}


def test_answers_are_those_of_transformers_for_the_same_probabilities() -> None:
    decision = pytest.importorskip("transformers.decision.template_utils")
    from transformers.decision.configuration_utils import DecisionConfig

    found = systemone(Engine(tiny_text_model(), "off"), SystemOneRequest.read(BODY), model="m")

    assert found["model"] == "m"
    assert found["usage"]["output_tokens"] == 0 < found["usage"]["input_tokens"]
    for question in decision.parse_questions(QUESTIONS, DecisionConfig()):
        answer = found["answers"][question.name]
        yes = answer.get("noul", 0.0)
        odds = list(answer.get("probabilities", {"true": yes, "false": 1 - yes}).values())
        wanted = question.answer(odds)
        assert answer.keys() == wanted.keys()
        for key, value in wanted.items():
            same = value if isinstance(value, str) or key == "legend" else pytest.approx(value)
            assert answer[key] == same


def test_who_answers_is_chosen_and_told() -> None:
    model = build_text_model()
    model.registry.register(random_expert(model, "red"))

    found = systemone(
        Engine(model, "off"), SystemOneRequest.read(BODY), model="m:red", choice=Given("red")
    )

    assert {str(one["weights"]) for one in found["t2agent"]["mixtures"].values()} == {
        "{'red': 1.0}"
    }


def test_assets_are_seen() -> None:
    engine = Engine(tiny_vision_model(), "off")

    def odds(colour: str) -> Any:
        body = {
            **BODY,
            "state": {"photo": "img-1"},
            "questions": {"team": QUESTIONS["team"]},
            "assets": {"img-1": {"data_base64": png(colour)}},
        }
        return systemone(engine, SystemOneRequest.read(body), model="m")["answers"]["team"][
            "probabilities"
        ]

    assert odds("red") != pytest.approx(odds("blue"), rel=1e-4)
    bad = SystemOneRequest.read({**BODY, "assets": {"a": {"data_base64": "?"}}})
    with pytest.raises(ImageRefusedError, match="base64"):
        systemone(engine, bad, model="m")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": 3}, "state"),
        ({"state": None}, "state"),
        ({"questions": {}}, "questions"),
        ({"questions": {"q": {"type": "box"}}}, "'noul', 'choice', 'score'"),
        ({"questions": {str(i): QUESTIONS["spam"] for i in range(65)}}, "at most 64"),
        ({"assets": {str(i): {"data_base64": ""} for i in range(5)}}, "at most 4"),
        ({"assets": {"a": {}}}, "data_base64"),
        ({"stream": True}, "stream"),
    ],
)
def test_bad_bodies(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SystemOneRequest.read({**BODY, **change})


@pytest.mark.parametrize("body", [None, [], "x"])
def test_a_body_that_is_no_object(body: Any) -> None:
    with pytest.raises(ConfigError, match="body is"):
        SystemOneRequest.read(body)
