from __future__ import annotations

import numpy as np
import pytest

from t2agent.dispatch.few_shot.space import Space
from t2agent.experts.mixture import Mixture

MODULES = ("lm.embed_proj", "lm.layers.0.q", "lm.layers.0.mlp.up", "lm.layers.11.q")


def test_one_row_for_all_layers() -> None:
    space = Space(("a", "b"))
    mixture = space.mixture(np.array([[0.25049, 0.0001]]))
    assert mixture == Mixture({"a": 0.25})
    assert space.weights(mixture).tolist() == [[0.25, 0.0]]
    assert {space.row(module) for module in MODULES} == {0}


def test_one_row_for_each_layer() -> None:
    space = Space.by_layer(("a", "b", "c"), MODULES)
    assert space.prefixes == ("", "lm.layers.0", "lm.layers.11")
    assert [space.row(module) for module in MODULES] == [0, 1, 1, 2]

    weights = np.array([[0.5, 0, 0], [0, 1, 0], [0.1, 0.2, 0]])
    mixture = space.mixture(weights)
    assert mixture.experts() == {"a", "b"}
    assert space.weights(mixture).tolist() == weights.tolist()
    for module in MODULES:
        wanted = {n: w for n, w in zip("abc", weights[space.row(module)], strict=True) if w}
        assert mixture.coefficients(module) == pytest.approx(wanted)


def test_a_flat_mixture_has_equal_rows() -> None:
    space = Space.by_layer(("a", "b"), MODULES)
    assert space.weights(Mixture({"a": 0.5, "x": 1.0})).tolist() == [[0.5, 0.0]] * 3
    assert space.mixture(np.zeros((3, 2))) == Mixture()
