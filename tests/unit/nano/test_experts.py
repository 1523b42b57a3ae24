"""The recipes of the shipped experts, each with a few steps on few examples."""

from __future__ import annotations

import sys

import pytest

from t2agent import Expert, T2Model
from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.dispatch.shipped_requests import real_examples
from t2agent.nano import experts
from t2agent.nano.errand_task import ErrandTask
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.train import train_expert

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nano():
    return T2Model.from_pretrained("t2-nano")


@pytest.fixture(autouse=True)
def trainings(monkeypatch):
    """The settings that the trainer was called with; it does one step of each training, of which
    two samples would tell nothing, so it is one of next-token training."""
    seen = []

    def few(model, task, **settings):
        seen.append({"task": task.name, **settings})
        sizes = {"method": "sft", "steps": 1, "prompts": 2, "validation": 2, "max_tokens": 8}
        return train_expert(model, task, **{**settings, **sizes})

    monkeypatch.setattr(experts, "train_expert", few)
    monkeypatch.setattr(experts, "_SCORED", 2)
    return seen


def test_a_domain_is_reinforced_at_its_own_rate_and_scored(nano, trainings):
    expert = experts.train_domain(nano, "json", progress=False)

    (one,) = trainings
    assert (one["task"], one["steps"], one["patience"]) == ("json", 60, 8)
    assert one["learning_rate"] == experts.LEARNING_RATES["json"]
    assert one["method"] == "reinforce"
    assert {"val", "val_base", "test", "test_base"} <= expert.card.scores.keys()
    assert expert.card.scores["test_requests"] == 2
    assert expert.card.license == "Apache-2.0"
    own = [e.prompt for e in TASKS["json"].sample(256, seed=0, split="train")]
    assert expert.card.examples == tuple(dict.fromkeys(own))


def test_tools_are_taught_twice_and_then_reinforced(nano, trainings, tmp_path):
    expert = experts.train_domain(nano, "tools", work=tmp_path, progress=False)

    assert [t["method"] for t in trainings] == ["sft", "sft", "reinforce"]
    assert [t["learning_rate"] for t in trainings] == [0.02, 0.005, 0.005]
    assert {t["task"] for t in trainings} == {ErrandTask().name}
    first, second, third = (t["start"] for t in trainings)
    assert first is None
    assert second.card.training["method"] == third.card.training["method"] == "sft"
    assert "start" in expert.card.training
    assert expert.card.modality == "text"  # though errands have images among them
    errands = {e.prompt for e in ErrandTask().sample(256, seed=0, split="train")}
    assert errands <= set(expert.card.examples)
    assert (tmp_path / "taught-1").is_dir()


def test_a_card_has_real_requests_beside_ours(nano):
    expert = experts.train_domain(nano, "reasoning", progress=False)

    assert set(real_examples("reasoning")) < set(expert.card.examples)
    assert expert.card.scores["test"] <= 1


def test_the_command_writes_what_it_is_asked_for(monkeypatch, tmp_path, capsys, trainings):
    arguments = [CLASSIFIER, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["experts", *arguments, "--seed", "3"])
    experts.main()

    assert [f.name for f in (tmp_path / "out").iterdir()] == [CLASSIFIER]
    expert = Expert.load(tmp_path / "out" / CLASSIFIER)
    assert expert.card.training["seed"] == 3
    assert expert.card.scores["test_requests"] == 2
    assert (tmp_path / "out" / CLASSIFIER / "metrics.jsonl").is_file()
    assert (tmp_path / "work" / f"{CLASSIFIER}-3").is_dir()
    assert capsys.readouterr().out.startswith(f"{CLASSIFIER} {{")


def test_every_shipped_expert_has_what_its_recipe_gives(nano):
    for name in DOMAINS:
        card = nano.registry.get(name).card
        assert card.description == experts.DESCRIPTIONS[name]
        assert card.scores["test_requests"] == 200
        assert card.scores["test"] > card.scores["test_base"]


def test_an_unknown_name_is_refused_before_a_model_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experts", "poems"])
    monkeypatch.setattr(experts, "T2Model", None)
    with pytest.raises(SystemExit) as exit_:
        experts.main()

    assert exit_.value.code == 2
    assert "poems" in capsys.readouterr().err
