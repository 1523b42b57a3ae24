"""What is kept of the experts' vectors, and what is dropped."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts.cache import ExpertCache
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import VECTORS_FILE
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model
from tests.architectures import build
from tests.architectures import expert as random_expert

SHAPES = {"a.q": 5, "a.up": 3}
SIZE = 4 * 8
NAMES = [f"e{k}" for k in range(6)]


@pytest.fixture
def folder(t2agent_home: Path) -> Path:
    parent = t2agent_home / "experts" / "org--base"
    for value, name in enumerate(NAMES):
        z = {module: torch.full((n,), float(value)) for module, n in SHAPES.items()}
        Expert(ExpertCard(name), z).save(parent / name)
    return parent


@pytest.fixture
def cache() -> ExpertCache:
    return ExpertCache(3 * SIZE)


@pytest.fixture
def registry(folder: Path, cache: ExpertCache) -> Registry:
    return Registry("org/base", fingerprint="f1", shapes=SHAPES, cache=cache)


def test_the_least_recently_used_are_dropped(registry: Registry, cache: ExpertCache) -> None:
    seen = {}
    for name in ("e0", "e1", "e2", "e0", "e3"):
        seen[name] = weakref.ref(registry.get(name))
        assert cache.bytes <= cache.budget
    assert {name for name, expert in seen.items() if expert() is None} == {"e1"}
    assert cache.bytes == 3 * SIZE
    assert registry.get("e1").z["a.q"].tolist() == [1.0] * 5


def test_an_expert_that_somebody_holds_stays_the_same_object(registry: Registry) -> None:
    held = registry.get("e0")
    for name in NAMES[1:]:
        registry.get(name)
    assert registry.get("e0") is held


def test_a_dropped_expert_is_checked_when_it_is_read_again(
    registry: Registry, folder: Path
) -> None:
    for name in NAMES:
        registry.get(name)
    vectors = folder / "e0" / VECTORS_FILE
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\7")
    with pytest.warns(UserWarning, match="e0"), pytest.raises(ExpertFormatError, match="e0"):
        registry.get("e0")
    assert "e0" not in registry


def test_experts_registered_in_code_count_and_are_not_dropped(
    registry: Registry, cache: ExpertCache
) -> None:
    mine = registry.register(Expert(ExpertCard("mine"), {"a.q": torch.ones(5)}))
    alive = weakref.ref(mine)
    del mine
    for name in NAMES:
        registry.get(name)
        assert cache.bytes <= cache.budget
    assert registry.get("mine") is alive()
    assert cache.bytes == 4 * 5 + 2 * SIZE
    registry.unregister("mine")
    assert registry.names() == NAMES  # looked at anew
    gc.collect()
    assert alive() is None
    assert cache.bytes == 2 * SIZE


def test_a_lower_budget_counts_at_once(registry: Registry, cache: ExpertCache) -> None:
    for name in NAMES:
        registry.get(name)
    cache.budget = SIZE
    assert cache.bytes == SIZE
    cache.budget = 0
    assert cache.bytes == 0
    assert registry.get("e5").z["a.q"].tolist() == [5.0] * 5


@pytest.mark.parametrize("budget", [-1, 1.5, True, None, "1 MB"])
def test_a_budget_is_a_number_of_bytes(cache: ExpertCache, budget: Any) -> None:
    with pytest.raises(ConfigError, match="number of bytes"):
        cache.budget = budget


# -- in a model -------------------------------------------------------------------------------


@pytest.fixture
def filled(t2agent_home: Path) -> tuple[T2Model, dict[str, torch.Tensor], list[torch.Tensor]]:
    """A model with experts in its user folder, a batch, and what each expert makes of it."""
    model, batch = build("llama")
    wanted = []
    for seed, name in enumerate(NAMES):
        one = random_expert(model, name, seed)
        model.registry.register(one, persist=True)
        wanted.append(logits(model, one, batch))
    return model, batch, wanted


def logits(model: T2Model, what: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with model.adapted(what), torch.no_grad():
        return model.model(**batch).logits


def size(model: T2Model) -> int:
    return 4 * sum(model.shapes.values())


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_answers_do_not_depend_on_the_budget(filled: Any, kept: int) -> None:
    model, batch, wanted = filled
    model.expert_cache.budget = 2 * kept * size(model)
    for _ in range(2):
        for k, name in enumerate(NAMES):
            assert torch.equal(logits(model, name, batch), wanted[k])
            assert model.expert_cache.bytes <= model.expert_cache.budget


@pytest.mark.parametrize("enter", ["adapted", "merged"])
def test_what_is_in_use_is_neither_dropped_nor_left_out_of_the_count(
    filled: Any, enter: str
) -> None:
    model, *_ = filled
    cache = model.expert_cache
    cache.budget = 0
    model.merged_cache.budget = 0  # it keeps the experts of what it keeps
    assert cache.bytes == 0
    with getattr(model, enter)("e0"):
        inside = weakref.ref(model.registry.get("e0"))
        for name in NAMES[1:]:
            model.registry.get(name)
        assert inside() is not None
        assert cache.bytes == size(model)
        with model.adapted("e0"), model.adapted("e1"):
            pass
        assert cache.bytes >= size(model)
    assert cache.bytes == 0
    assert inside() is None


def test_what_was_formed_for_the_layers_counts_and_is_dropped_first(filled: Any) -> None:
    model, batch, _ = filled
    cache = model.expert_cache
    logits(model, "e0", batch)
    everything = cache.bytes
    cache.budget = everything - 1
    assert cache.bytes <= everything - size(model)
    cache.budget = everything
    logits(model, {"e0": 0.5, "e1": 0.5}, batch)
    assert cache.bytes <= everything


def test_an_expert_that_no_registry_has_counts_while_its_plan_is_kept(filled: Any) -> None:
    model, batch, _ = filled
    cache = model.expert_cache
    cache.budget = 0
    cache.budget = 10 * size(model)
    mine = random_expert(model, "mine", 9)
    logits(model, mine, batch)
    assert cache.bytes == 2 * size(model)
    alive = weakref.ref(mine)
    del mine
    cache.budget = 0
    gc.collect()
    assert alive() is None


def test_many_threads_with_room_for_one_expert(filled: Any) -> None:
    model, batch, wanted = filled
    model.expert_cache.budget = 2 * size(model)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(15):
                k = rng.randrange(len(NAMES))
                assert torch.equal(logits(model, NAMES[k], batch), wanted[k])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert model.expert_cache.bytes <= model.expert_cache.budget
