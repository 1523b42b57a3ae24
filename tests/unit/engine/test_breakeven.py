from __future__ import annotations

import pytest

from t2agent.engine.break_even import BreakEven, Costs
from t2agent.models.model import T2Model
from tests.experts import random_expert
from tests.models import build_text_model


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    model.registry.register(random_expert(model, "alpha"))
    return model


@pytest.fixture
def even(model: T2Model, monkeypatch: pytest.MonkeyPatch) -> BreakEven:
    """Merging costs as much as a hundred steps save."""
    even = BreakEven(model)
    monkeypatch.setattr(even, "costs", lambda *_: Costs(merging=1.0, saving=0.01))
    return even


def repays(even: BreakEven, model: T2Model, max_tokens: int, key: str = "alpha") -> bool:
    return even.repays(model, "alpha", key, rows=1, max_tokens=max_tokens)


def test_costs_are_measured_once(model: T2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    even = BreakEven(model)
    costs = even.costs(model, "alpha", 3)
    assert costs.merging > 0
    assert costs.saving >= 0
    monkeypatch.setattr(model.model, "forward", lambda **_: pytest.fail("measured again"))
    assert even.costs(model, "alpha", 4) == costs


def test_long_answers_repay(model: T2Model, even: BreakEven) -> None:
    assert not repays(even, model, 99)
    assert repays(even, model, 100)


def test_the_usual_length_counts_rather_than_the_limit(model: T2Model, even: BreakEven) -> None:
    even.note(None, 20)
    assert not repays(even, model, 1000)


def test_earlier_steps_with_the_mixture_count(model: T2Model, even: BreakEven) -> None:
    for _ in range(4):
        even.note("alpha", 20)
        assert not repays(even, model, 19)
    even.note("alpha", 20)
    assert repays(even, model, 19)
    assert not repays(even, model, 19, key="beta")


def test_merged_weights_are_used_again(model: T2Model, even: BreakEven) -> None:
    assert repays(even, model, 100)
    assert repays(even, model, 1)


def test_weights_that_cannot_be_kept_must_repay_at_once(
    model: T2Model, even: BreakEven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.merged_cache, "budget", 10)
    for _ in range(10):
        even.note("alpha", 90)
    assert repays(even, model, 1000) is False
    even.note("alpha", 1000)
    assert repays(even, model, 1000)
    assert not repays(even, model, 50)


def test_forgotten_weights_must_repay_again(
    model: T2Model, even: BreakEven, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for_one = sum(layer.weight.nbytes for layer in model.targets.layers.values())
    monkeypatch.setattr(model.merged_cache, "budget", room_for_one)
    assert repays(even, model, 100)
    assert repays(even, model, 100, key="beta")
    assert not repays(even, model, 50)


def test_without_memory_nothing_is_merged(
    model: T2Model, even: BreakEven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even, "_bytes", 1 << 60)
    assert not repays(even, model, 10_000)


def test_only_the_first_of_two_generations_is_alone(even: BreakEven) -> None:
    with even.running() as first, even.running() as second:
        assert (first, second) == (True, False)
    with even.running() as third:
        assert third
