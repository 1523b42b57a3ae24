"""The stages' schedules, and what each of them trains by which optimiser."""

from __future__ import annotations

import pytest

from t2agent.nano import corpus, processor
from t2agent.nano.architecture import build
from t2agent.nano.stages import STAGES, Stage, build_optimizers, freeze
from t2agent.nano.trainee import Trainee


@pytest.fixture(scope="module")
def trainee() -> Trainee:
    return Trainee(build(processor.train_tokenizer(corpus.texts(100, 0)), seed=0))


def test_rates_rise_stay_and_fall() -> None:
    stage = Stage("s", steps=1000, rows=1, images=1)
    assert [stage.rate(step) for step in (0, 14, 29, 400)] == [1 / 30, 0.5, 1.0, 1.0]
    assert stage.rate(700) == pytest.approx(0.5)
    assert 0 < stage.rate(999) < 0.01
    assert stage.is_clean(549)
    assert not stage.is_clean(550)


def test_a_stage_that_ends_early_keeps_the_schedule_of_its_horizon() -> None:
    whole = Stage("s", steps=1000, rows=1, images=1)
    part = Stage("s", steps=600, rows=1, images=1, horizon=1000)
    for step in (0, 100, 549, 550, 599):
        assert part.rate(step) == whole.rate(step)
        assert part.is_clean(step) == whole.is_clean(step)


@pytest.mark.parametrize("name", STAGES)
def test_what_is_trained_has_one_optimizer(name: str, trainee: Trainee) -> None:
    stage = STAGES[name]
    freeze(trainee, stage)
    named = {id(p): n for n, p in trainee.named_parameters()}
    muon, adam = (
        [p for group in optimizer.param_groups for p in group["params"]]
        for optimizer in build_optimizers(trainee, stage)
    )
    found = [named[id(p)] for p in (*muon, *adam)]
    assert len(found) == len(set(found))
    assert set(found) == {n for n, p in trainee.named_parameters() if p.requires_grad}
    assert all(p.ndim == 2 and "embed" not in named[id(p)] for p in muon)
    seeing = {
        n for n in named.values() if ".vision_model." in n or n.startswith(("what.", "tone."))
    }
    assert seeing
    if name == "vision":
        assert set(found) == seeing
    elif name == "text":
        assert not set(found) & seeing
        assert not any(".connector." in n for n in found)
    else:
        assert set(found) == set(named.values())
