from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture

names = st.sampled_from(["math", "code", "read"])
weights = st.dictionaries(names, st.floats(-2, 2))
prefixes = st.sampled_from(["model", "model.layers.1", "model.layers.1.mlp", "model.layers.10"])
mixtures = st.builds(Mixture, weights, st.dictionaries(prefixes, weights))


def test_a_prefix_lays_its_weights_over_the_others() -> None:
    mixture = Mixture({"math": 0.7}, layers={"model.layers.3": {"math": 0.0, "code": 1.0}})
    assert mixture.coefficients("model.layers.3.mlp.up_proj") == {"code": 1.0}
    assert mixture.coefficients("model.layers.3") == {"code": 1.0}
    assert mixture.coefficients("model.layers.4.mlp.up_proj") == {"math": 0.7}
    assert mixture.experts() == {"math", "code"}


def test_an_expert_that_a_layer_does_not_mention_keeps_its_weight() -> None:
    mixture = Mixture({"math": 0.7, "read": 1}, layers={"a": {"math": 0.1}})
    assert mixture.coefficients("a.b") == {"math": 0.1, "read": 1.0}


def test_a_prefix_ends_at_a_dot_and_the_longest_decides() -> None:
    mixture = Mixture(layers={"m.1": {"x": 1}, "m.1.mlp.": {"y": 2}, "m": {"z": 3}})
    assert mixture.coefficients("m.10.mlp") == {"z": 3.0}
    assert mixture.coefficients("m.1.attn") == {"x": 1.0}
    assert mixture.coefficients("m.1.mlp.up") == {"y": 2.0}
    assert mixture.coefficients("n.1") == {}


@given(mixtures)
def test_a_mixture_survives_json_and_pickle(mixture: Mixture) -> None:
    for other in (
        Mixture.from_dict(json.loads(json.dumps(mixture.to_dict()))),
        pickle.loads(pickle.dumps(mixture)),
        copy.deepcopy(mixture),
    ):
        assert other == mixture
        assert hash(other) == hash(mixture)


def test_order_does_not_matter() -> None:
    one, other = Mixture({"a": 1, "b": 2}), Mixture({"b": 2, "a": 1})
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, Mixture({"a": 1})}) == 2


def test_a_mixture_cannot_be_changed() -> None:
    given_weights = {"a": 1.0}
    mixture = Mixture(given_weights)
    given_weights["a"] = 2.0
    assert mixture.weights == {"a": 1.0}
    with pytest.raises(TypeError):
        mixture.weights["a"] = 3.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("mixture", "is_adapted"),
    [
        (Mixture(), False),
        (Mixture({"a": 0}), False),
        (Mixture({"a": 1}), True),
        (Mixture({}, {"m": {"a": 0}}), False),
        (Mixture({}, {"m": {"a": -1}}), True),
    ],
)
def test_truth_tells_the_base_model(mixture: Mixture, is_adapted: bool) -> None:
    assert bool(mixture) is is_adapted


def test_numbers_of_numpy_are_numbers() -> None:
    assert Mixture({"a": np.float32(0.5)}).to_dict() == {"weights": {"a": 0.5}, "layers": {}}


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", None, True, 10**400, [1]])
def test_a_weight_must_be_a_finite_number(weight: object) -> None:
    with pytest.raises(ConfigError, match="'math'"):
        Mixture({"math": weight})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="'math'"):
        Mixture(layers={"m": {"math": weight}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "arguments",
    [
        ("math",),
        ({1: 1.0},),
        ({"": 1.0},),
        ({}, ["m"]),
        ({}, {"": {}}),
        ({}, {3: {}}),
        ({}, {"m": 1}),
    ],
)
def test_what_is_no_mixture_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError):
        Mixture(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [None, [], {"math": 1.0}, {"weights": 3}])
def test_what_is_no_mixture_in_json_is_refused(plain: object) -> None:
    with pytest.raises(ConfigError):
        Mixture.from_dict(plain)
