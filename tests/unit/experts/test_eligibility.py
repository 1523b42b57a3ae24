"""Which experts dispatch may choose by itself."""

from __future__ import annotations

import json
import re

import pytest

from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.labels import choosable
from t2agent.errors import ConfigError, ExpertNotFoundError
from t2agent.experts.card import ExpertCard
from t2agent.experts.eligibility import OVERRIDES_FILE, by_card
from t2agent.experts.expert import Expert
from t2agent.experts.folder import parse_config
from t2agent.experts.registry import Registry, register_expert
from t2agent.experts.selection import Selection
from t2agent.experts.transfer import transfer
from t2agent.tasks.examples import ExampleTask
from t2agent.tasks.task import Example
from t2agent.train import train_expert
from tests.experts import random_expert
from tests.models import tiny_text_model


def card(scores: dict[str, float], **training: object) -> ExpertCard:
    return ExpertCard("one", scores=scores, training=training)


@pytest.mark.parametrize(
    ("scores", "training", "eligible"),
    [
        ({}, {}, False),
        ({"val": 0.9}, {}, False),
        ({"val": 0.9, "val_base": -0.5}, {}, True),
        ({"val": -0.5, "val_base": -0.5}, {}, False),
        ({"val": -0.5, "val_base": 0.9}, {}, False),
        ({"val": 0.10, "val_base": 0.05}, {}, False),
        ({"val": 0.10, "val_base": 0.05, "val_examples": 10_000}, {}, True),
        ({"val": 1.0, "val_base": -1.0}, {"validation": 1}, False),
        ({"val": 1.0, "val_base": -1.0}, {"validation": 3}, True),
        ({"val": 0.2, "val_base": 0.0}, {"hyper": {"validation": 16}}, False),
        ({"train": 1.0, "train_base": -1.0}, {}, False),
        ({"sums_test": 0.8, "sums_test_base": 0.1, "sums_test_examples": 100}, {}, True),
        ({"val": True, "val_base": -1.0}, {}, False),
        ({"val": 9.0, "val_base": -1.0}, {}, False),
        ({"val": 1.0, "val_base": -1.0}, {"method": "blend"}, False),
        ({"val": 1.0, "val_base": -1.0}, {"method": "arithmetic"}, False),
        ({"val": 1.0, "val_base": -1.0}, {"method": "transfer"}, False),
    ],
)
def test_by_the_card(scores, training, eligible):
    found = by_card(card(scores, **training))
    assert found.eligible is eligible
    assert found.reason


@pytest.mark.parametrize(
    ("score", "base", "examples", "told"),
    [
        (1.0, -1.0, 1, ["1 unseen example,", "where 3 may do", "more examples"]),
        (1.0, -1.0, 2, ["2 unseen examples,", "where 3 may do", "a tenth is kept"]),
        (0.2, 0.0, 16, ["16 unseen examples,", "where 200 may do", "experts eval"]),
        (0.01, 0.0, 64, ["too close", "64 unseen examples", "longer"]),
        (0.5, 0.5, 64, ["no better than the base model", "longer"]),
    ],
)
def test_the_reason_says_what_to_do(score, base, examples, told):
    found = by_card(card({"val": score, "val_base": base}, validation=examples))
    assert not found.eligible
    for part in (*told, f"base model {base:.2f}", "t2agent experts eligible one --yes"):
        assert part in found.reason
    enough = re.search(r"where (\d+) may do", found.reason)
    if enough is not None:
        assert by_card(card({"val": score, "val_base": base}, validation=int(enough[1]))).eligible


def test_shipped_experts_are_eligible():
    registry = Registry("t2-nano")
    assert all(registry.eligible(name).eligible for name in registry)


def test_what_beats_nothing_is_never_chosen():
    model = tiny_text_model()
    examples = [Example(f"What is {n} plus {m}?", str(n + m)) for n in range(8) for m in range(8)]
    task = ExampleTask("sums", examples)
    quick = {"prompts": 2, "samples": 2, "validation": 4, "max_tokens": 4, "validate_every": 1}
    for name in ("one", "two"):
        expert = train_expert(
            model,
            task,
            method="sft",
            steps=1,
            name=name,
            learning_rate=1e-6,
            progress=False,
            **quick,
        )
        model.registry.register(expert)
        assert expert.card.negatives
    model.registry.register(random_expert(model, "good"))
    model.registry.register(model.registry.blend({"one": 0.5, "good": 0.5}, "blend"))
    model.registry.register((model.registry.get("good") * 0.5).renamed("half"))
    model.registry.register(transfer(model.registry.get("good"), model, name="moved").expert)
    assert list(choosable(model.registry)) == ["good"]
    (found,) = EmbeddingDispatcher(model.registry).dispatch([Request("What is 3 plus 4?")])
    assert set(found.scores) <= {"good"}
    # Asked for, each of them answers.
    assert list(Selection.of(model.registry, ["one", "blend"]).eligible_cards()) == ["blend", "one"]
    with model.adapted("half"):
        pass


def test_a_training_tells_on_how_many_examples_it_was_judged():
    task = ExampleTask("yes", [Example(f"Do you see {n}?", "y") for n in range(100)])
    trained = train_expert(
        tiny_text_model(), task, method="sft", steps=1, progress=False, prompts=4, max_tokens=2,
        negatives=["Do you like me?", "Do you see 1?"],
    )  # fmt: skip
    count = trained.card.training["validation"]
    assert 3 <= count <= len(task.split("val"))
    proof = trained.renamed("yes", scores={"val": 1.0, "val_base": -1.0}).card
    assert by_card(proof).eligible
    # Requests that are examples of it are no negatives.
    assert set(trained.card.negatives) <= {"Do you like me?", "Do you see 1?"}
    assert not set(trained.card.negatives) & set(trained.card.examples)
    with pytest.raises(ConfigError, match="give 'near', a Task"):
        train_expert(tiny_text_model(), task, negatives="nearby")  # type: ignore[arg-type]


def test_what_somebody_says_counts(tmp_path, t2agent_home):
    model = tiny_text_model()
    registry = model.registry
    bare = Expert.identity(model, "bare")
    registry.register(bare, persist=True)
    before = registry.fingerprint
    assert not registry.eligible("bare").eligible
    registry.set_eligible("bare", True)
    assert registry.eligible("bare") == (True, "as you said")
    assert registry.fingerprint != before
    other = Registry(model.name, fingerprint=model.fingerprint, shapes=model.shapes)
    assert not other.eligible("bare").eligible
    registry.set_eligible("bare", True, persist=True)
    other = Registry(model.name, fingerprint=model.fingerprint, shapes=model.shapes)
    assert other.eligible("bare").eligible
    file = other.user_folder / OVERRIDES_FILE
    assert json.loads(file.read_text()) == {"bare": True}
    # Another of the name has to show it anew, for this process or for later ones.
    registry.register(bare, replace=True)
    assert not registry.eligible("bare").eligible
    registry.register(bare, replace=True, persist=True)
    assert json.loads(file.read_text()) == {}
    registry.register(bare, replace=True, eligible=True)
    registry.unregister("bare", persist=True)
    assert "bare" not in registry
    with pytest.raises(ExpertNotFoundError):
        registry.set_eligible("bare", True)
    registry.register(bare)
    with pytest.raises(ConfigError, match="True, False or None"):
        registry.set_eligible("bare", 1)  # type: ignore[arg-type]


def test_without_the_model_and_for_this_process_alone():
    model = tiny_text_model()
    register_expert(random_expert(model, "a"), model=model.name, persist=False, eligible=False)
    register_expert(Expert.identity(model, "b"), model=model.name, persist=False, eligible=True)
    try:
        assert model.registry.eligible_cards().keys() & {"a", "b"} == {"b"}
    finally:
        for name in ("a", "b"):
            Registry(model.name).unregister(name)


def test_a_damaged_file_is_told_and_costs_nothing_else():
    model = tiny_text_model()
    model.registry.register(random_expert(model, "a"), persist=True)
    (model.registry.user_folder / OVERRIDES_FILE).write_text("[")
    other = Registry(model.name, fingerprint=model.fingerprint, shapes=model.shapes)
    with pytest.warns(UserWarning, match="is damaged"):
        assert other.eligible("a").eligible
    with pytest.raises(ConfigError, match="Put a good copy there"):
        other.set_eligible("a", False, persist=True)


def test_cards_without_negatives_are_read_as_before(tmp_path):
    expert = random_expert(tiny_text_model(), "a")
    expert.save(tmp_path / "a")
    path = tmp_path / "a" / "expert_config.json"
    plain = json.loads(path.read_text())
    assert plain["format_version"] == 1
    del plain["card"]["negatives"]
    assert parse_config(tmp_path, json.dumps(plain).encode()).card == expert.card
