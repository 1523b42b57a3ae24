from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts.expert import Expert, ExpertCard, Mixture, as_mixture


def an_expert(name: str = "math") -> Expert:
    return Expert(ExpertCard(name), {"a.q": torch.randn(5), "a.up": torch.randn(3)})


class SomeModel:
    name = "org/base"
    fingerprint = "f00"
    shapes: Mapping[str, int] = {"a.q": 4, "a.up": 2}


def test_an_expert_keeps_the_very_tensors_it_is_given() -> None:
    z = {"m": torch.nn.Parameter(torch.ones(3))}
    expert = Expert(ExpertCard("x"), z)
    assert expert.z["m"] is z["m"]
    expert.z["m"].sum().backward()
    assert z["m"].grad is not None
    z["n"] = torch.nn.Parameter(torch.ones(1))
    assert list(expert.z) == ["m"]


def test_what_an_expert_tells_of_itself() -> None:
    expert = an_expert()
    assert expert.parameters == 8
    assert expert.lengths == {"a.q": 5, "a.up": 3}
    assert expert.name == "math"
    assert repr(expert) == "Expert('math', 8 parameters)"


def test_experts_are_told_apart_by_identity() -> None:
    one = an_expert()
    other = Expert(one.card, one.z)
    assert one != other
    assert len({one, other}) == 2


def test_experts_can_be_held_weakly_and_copied() -> None:
    expert = an_expert()
    for twin in (copy.deepcopy(expert), pickle.loads(pickle.dumps(expert))):
        assert twin.card == expert.card
        assert twin.digest() == expert.digest()
    reference = weakref.ref(expert)
    del expert
    gc.collect()
    assert reference() is None


def test_identity_is_one_everywhere() -> None:
    expert = Expert.identity(SomeModel(), "start")
    assert expert.card == ExpertCard("start", base="org/base", base_fingerprint="f00")
    assert {name: z.tolist() for name, z in expert.z.items()} == {
        "a.q": [1.0] * 4,
        "a.up": [1.0] * 2,
    }


@pytest.mark.parametrize(
    "z",
    [
        {},
        None,
        [torch.ones(2)],
        {"m": [1.0]},
        {"m": torch.ones(2, dtype=torch.float64)},
        {"m": torch.ones(2, dtype=torch.bfloat16)},
        {"m": torch.ones(2, 2)},
        {"m": torch.tensor(1.0)},
        {"m": torch.ones(0)},
        {"": torch.ones(1)},
        {1: torch.ones(1)},
        {"__metadata__": torch.ones(1)},
    ],
)
def test_vectors_of_another_kind_are_refused(z: object) -> None:
    with pytest.raises(ConfigError, match=r"'x'|'m'"):
        Expert(ExpertCard("x"), z)  # type: ignore[arg-type]


def test_a_card_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="ExpertCard"):
        Expert("x", {"m": torch.ones(1)})  # type: ignore[arg-type]


def test_the_digest_is_of_the_content() -> None:
    z = {"a": torch.arange(4.0), "b": torch.ones(2)}
    digest = Expert(ExpertCard("x"), z).digest()
    # Neither order, layout nor card matter; every value and name does.
    spread = {"b": torch.ones(2, 2)[:, 0], "a": torch.arange(0, 4, 0.5)[::2]}
    assert Expert(ExpertCard("y"), spread).digest() == digest
    assert Expert(ExpertCard("x"), {**z, "b": torch.tensor([1.0, 1.0001])}).digest() != digest
    assert Expert(ExpertCard("x"), {"a": z["a"], "c": z["b"]}).digest() != digest


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_expert_that_diverged_is_not_saved(tmp_path: Path, value: float) -> None:
    an_expert().save(tmp_path / "x")
    with pytest.raises(ExpertFormatError, match=r"'m'.*NaN or infinity"):
        Expert(ExpertCard("x"), {"m": torch.tensor([1.0, value])}).save(tmp_path / "x")
    assert Expert.load(tmp_path / "x").parameters == 8


def test_what_stands_for_a_mixture() -> None:
    expert = an_expert()
    mixture = Mixture({"math": 0.5})
    assert as_mixture(None) == (Mixture(), {})
    assert as_mixture("math") == (Mixture({"math": 1.0}), {})
    assert as_mixture({"math": 0.5}) == (mixture, {})
    assert as_mixture(mixture) == (mixture, {})
    assert as_mixture(expert) == (Mixture({"math": 1.0}), {"math": expert})
    with pytest.raises(ConfigError, match="list is not a mixture"):
        as_mixture(["math"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vector", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")], ids=["sparse", "meta"]
)
def test_a_vector_without_numbers_of_its_own_is_refused(vector: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="dense float32"):
        Expert(ExpertCard("math"), {"m": vector})
