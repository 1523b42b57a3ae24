from __future__ import annotations

import pytest
import torch

from t2agent.errors import (
    ConfigError,
    ExpertFormatError,
    ExpertMismatchError,
    ExpertNotFoundError,
)
from t2agent.experts.cache import ExpertCache
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.plans import Planner

SHAPES = {"a": 3, "b": 4}


def expert(name: str, *, bound: str = "", **z: torch.Tensor) -> Expert:
    vectors = z or {layer: torch.randn(size) for layer, size in SHAPES.items()}
    return Expert(ExpertCard(name, base_fingerprint=bound), vectors)


KNOWN = {name: expert(name) for name in ("x", "y")}


def find(name: str) -> Expert:
    if name not in KNOWN:
        raise ExpertNotFoundError(f"no {name}")
    return KNOWN[name]


def planner(routed: frozenset[str] = frozenset()) -> Planner:
    return Planner(
        SHAPES, routed, name="tiny", find=find, fingerprint=lambda: "f1", cache=ExpertCache()
    )


def test_only_layers_that_change_are_in_a_plan() -> None:
    _, plan = planner().one(expert("part", a=torch.full((3,), 2.0)))
    assert plan.deltas.keys() == {"a"}
    assert not planner().one(None)[1].deltas
    _, plan = planner().one(Mixture({"x": 1.0}, layers={"b": {"x": 0.0}}))
    assert plan.deltas.keys() == {"a"}


def test_a_plan_is_made_once_and_anew_when_a_vector_changes() -> None:
    plans, own = planner(), expert("own")
    first = plans.one(own)[1]
    assert plans.one(own)[1] is first
    own.z["a"].add_(1)
    assert plans.one(own)[1] is not first


def test_rows_are_told_apart_only_where_they_differ() -> None:
    assert planner().rows(["x", "x"]).rows is None
    assert planner().rows(["x", "y", "x"]).rows is not None


def test_rows_that_a_router_mixes_must_agree() -> None:
    plans = planner(frozenset({"b"}))
    plans.rows(["x", "x"])
    with pytest.raises(ConfigError, match="router"):
        plans.rows(["x", None])
    only_a = expert("part", a=torch.ones(3) * 2)
    assert plans.rows([only_a, None]).rows is not None  # the router's layer is not adapted


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        ("nobody", ExpertNotFoundError, "no nobody"),
        (expert("e", bound="f2"), ExpertMismatchError, "f2.*f1"),
        (expert("e", a=torch.ones(2)), ExpertMismatchError, "2 numbers for 'a'.*needs 3"),
        (expert("e", c=torch.ones(2)), ExpertMismatchError, "vector for 'c'.*targets"),
        (expert("e", a=torch.tensor([1.0, torch.nan, 1.0])), ExpertFormatError, "NaN"),
        (expert("e", a=torch.tensor([1.0, torch.inf, 1.0])), ExpertFormatError, "infinity"),
        (5, ConfigError, "not a mixture"),
    ],
)
def test_what_does_not_fit_is_refused(what: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        planner().one(what)  # type: ignore[arg-type]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="empty list"):
        planner().rows([])
