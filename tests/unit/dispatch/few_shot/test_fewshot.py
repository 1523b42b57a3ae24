from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from t2agent.dispatch import FewShotDispatcher, Latest, RefinedDispatcher, Request, SearchOptions
from t2agent.dispatch.dispatcher import Adapted
from t2agent.dispatch.few_shot.strategy import METHOD, UNNAMED, adapt
from t2agent.errors import ConfigError, ExpertExistsError
from t2agent.experts.blend import blended
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model
from t2agent.train import Example
from tests.experts import random_expert
from tests.models import build_text_model, build_vision_model
from tests.unit.dispatch.conftest import examples

QUICK = SearchOptions(iterations=0, climb=0, scales=(), max_tokens=4)


def with_experts(model: T2Model) -> T2Model:
    for seed, name in enumerate("ab"):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture
def model() -> T2Model:
    return with_experts(build_text_model())


def card(name: str, requests: list[str], modality: str = "text", **training: object) -> ExpertCard:
    return ExpertCard(name, examples=tuple(requests), modality=modality, training=training)  # type: ignore[arg-type]


def found(mixture: Mixture, requests: list[str], modality: str = "text") -> Latest:
    return Latest(Adapted(mixture, card(UNNAMED, requests, modality)))


def test_nothing_adapted_to(cards) -> None:
    dispatcher = FewShotDispatcher(cards(card("math", ["add"])))
    with pytest.raises(ConfigError, match=r"call chat\.adapt\(examples\)"):
        dispatcher.dispatch([Request("Hi")])


def test_one_task_is_every_request_of_its_modality(cards) -> None:
    """No encoder is loaded for it."""
    mixture = Mixture({"a": 0.3})
    dispatcher = FewShotDispatcher(cards(), found(mixture, ["add"]))
    text, image = dispatcher.dispatch([Request("anything"), Request("anything", 1)])
    assert (text.mixture, text.in_scope, dict(text.scores)) == (mixture, True, {UNNAMED: 1.0})
    assert (image.mixture, image.in_scope, dict(image.scores)) == (Mixture(), False, {})
    assert {text.strategy, image.strategy} == {"few-shot"}
    assert text.seconds > 0


def test_a_named_task_is_an_expert_of_the_registry(cards) -> None:
    registry = cards(card("math", ["add"]), card("tables", ["multiply"], method=METHOD))
    [decision] = FewShotDispatcher(registry).dispatch([Request("Hi")])
    assert decision.mixture == Mixture({"tables": 1.0})


def test_among_several_tasks_the_examples_decide(cards, words) -> None:
    registry = cards(
        card("math", examples("moon", 8)), card("fishing", examples("fish", 8), method=METHOD)
    )
    latest = found(Mixture({"a": 0.3}), examples("iron", 8))
    dispatcher = FewShotDispatcher(registry, latest)
    asked = [Request(f"{topic}1 {topic}2 {topic}") for topic in ("fish", "iron")]
    asked.insert(1, Request("fish", 1))
    fish, image, iron = dispatcher.dispatch(asked)
    assert fish.mixture == Mixture({"fishing": 1.0})
    assert iron.mixture == Mixture({"a": 0.3})
    assert set(iron.scores) == {"fishing", UNNAMED}
    assert (image.mixture, image.in_scope) == (Mixture(), False)
    assert {d.strategy for d in (fish, iron)} == {"few-shot"}


def test_embedding_decides_unless_the_request_is_of_an_adapted_task(cards, words) -> None:
    registry = cards(card("moon", examples("moon", 8)), card("fish", examples("fish", 8)))
    latest = Latest()
    dispatcher = RefinedDispatcher(registry, latest)
    asked = [Request(f"{topic}1 {topic}2 {topic}") for topic in ("fish", "iron")]
    fish, iron = dispatcher.dispatch(asked)
    assert fish.mixture == Mixture({"fish": 1.0})
    before = dispatcher.version
    latest.found = found(Mixture({"fish": 0.2, "moon": 0.4}), examples("iron", 8)).found
    fish, iron = dispatcher.dispatch(asked)
    assert fish.mixture == Mixture({"fish": 1.0})
    assert iron.mixture == Mixture({"fish": 0.2, "moon": 0.4})
    assert {d.strategy for d in (fish, iron)} == {"embedding+few-shot"}
    assert dispatcher.version != before


def test_adapting_with_a_name_registers_an_expert(model: T2Model) -> None:
    result = adapt(
        model, [("Hi", "x"), ("Hi", "x"), ("Why?", "y")], name="greet", options=QUICK,
        progress=False,
    )  # fmt: skip
    expert = model.registry.get("greet")
    assert expert.card.examples == ("Hi", "Why?")
    assert expert.card.modality == "text"
    assert expert.card.training["method"] == METHOD
    assert expert.card.training["mixture"] == json.loads(json.dumps(result.mixture.to_dict()))
    assert expert.card.scores == {"examples": -1.0, "examples_base": -1.0}
    same = blended(*model.resolve(result.mixture), model.shapes)
    assert all(torch.equal(expert.z[n], same[n]) for n in model.shapes)
    with pytest.raises(ExpertExistsError, match="'greet'"):
        adapt(model, [("Hi", "x")], name="greet", options=QUICK, progress=False)
    again = adapt(
        model, [("Hi", "x")], name="greet", replace_existing=True, options=QUICK, progress=False
    )
    # The one that is replaced is not mixed into its successor.
    assert {n for t in again.tried for n in t.mixture.experts()} == {"a", "b"}


def test_an_adapted_expert_is_there_for_later_processes_if_it_is_to_persist(
    model: T2Model, t2agent_home: Path
) -> None:
    adapt(model, [("Hi", "x")], name="kept", persist=True, options=QUICK, progress=False)
    adapt(model, [("Hi", "x")], name="held", options=QUICK, progress=False)
    assert Registry(model.name).names() == ["kept"]
    assert Path(model.registry.source("kept")).is_relative_to(t2agent_home)
    with pytest.raises(ConfigError, match="name="):
        adapt(model, [("Hi", "x")], persist=True, options=QUICK, progress=False)


def test_adapting_without_a_name_is_held_by_the_process(model: T2Model) -> None:
    latest = Latest()
    result = adapt(model, [("Hi", "x")], latest=latest, options=QUICK, progress=False)
    assert latest.found is not None
    assert (latest.found.mixture, latest.found.card.examples) == (result.mixture, ("Hi",))
    assert model.registry.names() == ["a", "b"]


def test_a_wrong_name_is_told_before_the_search(model: T2Model) -> None:
    with pytest.raises(ConfigError, match="cannot name an expert"):
        adapt(model, [("Hi", "x")], name="no name", options=QUICK, progress=False)


def test_images_count() -> None:
    model = build_vision_model()
    for seed, (name, modality) in enumerate({"a": "text", "see": "image"}.items()):
        made = random_expert(model, name, seed)
        model.registry.register(Expert(card(name, [], modality), made.z))
    picture = Image.new("RGB", (64, 64), "red")
    latest = Latest()
    result = adapt(
        model, [Example("What?", "x", picture)], latest=latest, options=QUICK, progress=False
    )
    assert {n for t in result.tried for n in t.mixture.experts()} == {"a", "see"}
    assert latest.found is not None
    assert latest.found.card.modality == "image"


def test_starting_from_the_embedding_dispatcher(model: T2Model, words) -> None:
    """Its mean probabilities are tried first, and only its top three experts are mixed."""
    topics = ("fish", "iron", "moon", "salt")
    for seed, topic in enumerate(topics):
        made = random_expert(model, topic, seed)
        model.registry.register(Expert(card(topic, examples(topic, 8)), made.z))
    shots = [(text, "x") for text in examples("iron", 3)]
    result = adapt(model, shots, start="embedding", options=QUICK, progress=False)
    names = {n for t in result.tried for n in t.mixture.experts()}
    assert len(names) == 3
    assert "iron" in names
    guess = result.tried[-1].mixture.weights
    assert max(guess, key=lambda name: guess[name]) == "iron"
    assert 0.9 < sum(guess.values()) <= 1.0 + 1e-9 or len(guess) == 3


def test_with_bare_answers_the_right_expert_of_t2_nano_is_found() -> None:
    """No expert's reply is the bare answer; few replies are generated."""
    from t2agent.nano.tasks import TASKS

    model = T2Model.from_pretrained("t2-nano")
    pairs = [(e.prompt, e.answer) for e in TASKS["reasoning"].sample(6, seed=0)]
    options = SearchOptions(max_tokens=24, samples=2)
    result = adapt(model, pairs, options=options, progress=False)
    assert set(result.mixture.weights) == {"reasoning"}
    base, single, *_ = result.finalists
    assert single.trial.score > base.trial.score
    # 7 mixtures at first, 3 replies of each to each of 6 examples: no more is searched for.
    assert result.generated <= 7 * 6 * 3
    assert [phase for phase, *_ in result.history] == ["first"]
    assert result.signal
