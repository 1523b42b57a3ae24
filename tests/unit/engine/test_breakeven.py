from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from t2agent.engine.break_even import BreakEven, Costs
from t2agent.engine.two_passes import Engine, Given
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
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
    assert costs is not None
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


@dataclass
class Measuring:
    """An engine whose first request is being measured, until it is let."""

    engine: Engine
    right: list[int]
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    found: list[list[int]] = field(default_factory=list)

    @classmethod
    def new(cls) -> Measuring:
        model = build_text_model()
        for seed, name in enumerate(("alpha", "beta")):
            model.registry.register(random_expert(model, name, seed))
        right = tokens(Engine(model, None, merging=False), "alpha")
        measuring = cls(Engine(model, None), right)
        model.model.register_forward_pre_hook(lambda *_: measuring.wait())
        return measuring

    def wait(self) -> None:
        if not self.begun.is_set():  # the first forward pass: it is measured before it is answered
            self.begun.set()
            assert self.go_on.wait(30)

    def first(self) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: self.found.append(tokens(self.engine, "alpha")), daemon=True
        )
        thread.start()
        assert self.begun.wait(30)
        return thread


def tokens(engine: Engine, expert: str | None) -> list[int]:
    choice = None if expert is None else Given(expert)
    [answer] = engine.answer(["hello"], GenerationOptions(max_tokens=6), choice=choice)
    return list(answer.generation.token_ids)


def test_others_are_answered_while_one_measures() -> None:
    measuring = Measuring.new()
    engine, model = measuring.engine, measuring.engine.model
    first = measuring.first()
    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(tokens, engine, "alpha").result(10) == measuring.right
            assert engine.break_even.costs(model, "alpha", 1) is None
            assert not engine.break_even.repays(model, "alpha", "alpha", rows=1, max_tokens=10**9)
        finally:
            measuring.go_on.set()
    first.join(10)
    assert measuring.found == [measuring.right]
    assert engine.break_even.costs(model, "alpha", 1) is not None


@pytest.mark.parametrize("expert", [None, "alpha"])
def test_who_measures_and_who_owns_the_weights_do_not_wait_for_each_other(
    expert: str | None,
) -> None:
    measuring = Measuring.new()
    first = measuring.first()
    inside: list[list[int]] = []

    def own() -> None:
        with measuring.engine.model.merged("beta"):
            measuring.go_on.set()  # its next pass waits for these weights
            first.join(0.2)
            inside.append(tokens(measuring.engine, expert))

    owner = threading.Thread(target=own, daemon=True)
    owner.start()
    for thread in (owner, first):
        thread.join(10)
        assert not thread.is_alive(), "they wait for each other"
    assert measuring.found == [measuring.right]
    assert inside == [tokens(measuring.engine, expert or "beta")]
