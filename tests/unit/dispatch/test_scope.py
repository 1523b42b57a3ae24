from __future__ import annotations

import numpy as np
import pytest

from t2agent.dispatch.classifier import HeldOut, fit_classifier
from t2agent.dispatch.scope import (
    GENERAL_WEIGHT,
    LOGIT_WEIGHT,
    UNKNOWN,
    Gate,
    General,
    _balanced,
    _elsewhere,
    fit_gate,
)

SIZE = 24


def near(centre: int, n: int, seed: int, noise: float = 0.15) -> np.ndarray:
    """Unit vectors around an axis."""
    vectors = noise * np.random.default_rng(seed).standard_normal((n, SIZE))
    vectors[:, centre] += 1
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gate_for(
    groups: list[np.ndarray], threshold: float | None = None, sources: np.ndarray | None = None
) -> tuple[Gate, np.ndarray]:
    """A gate whose general requests lie around four axes of their own; its logits' weight."""
    vectors = np.concatenate(groups)
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    general = General(
        np.concatenate([near(20 + k, 8, 50 + k, 0.3) for k in range(4)]), np.repeat(range(4), 8)
    )
    classifier, held_out = fit_classifier(
        vectors, labels, np.zeros((len(groups), vectors.shape[1]), np.float32), 1.0
    )
    logits = classifier.logits(general.vectors)
    if sources is None:
        sources = np.full(len(vectors), UNKNOWN)
    gate = fit_gate(vectors, labels, sources, len(groups), held_out, general, logits, threshold)
    return gate, classifier.logits


def test_the_score_is_the_formula_of_the_docstring():
    groups = [near(0, 6, 0), near(1, 9, 1)]
    gate, logits = gate_for(groups)
    x = near(0, 1, 7, 0.5)

    to_labels = []
    for group in groups:
        centre = group.sum(axis=0) / np.linalg.norm(group.sum(axis=0))
        to_labels.append((centre @ x[0] + max(group @ x[0])) / 2)
    general = np.sort(gate.general @ x[0])[-5:].mean()
    expected = max(to_labels) + LOGIT_WEIGHT * logits(x).max() - GENERAL_WEIGHT * general
    assert gate.scope(x, logits(x))[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("labels", [1, 2, 12])
def test_the_threshold_separates(labels):
    gate, logits = gate_for([near(k, 15, k) for k in range(labels)])
    inside = np.concatenate([near(k, 5, 100 + k) for k in range(labels)])
    outside = np.concatenate([near(20 + k, 5, 200 + k, 0.3) for k in range(4)])

    assert (gate.scope(inside, logits(inside)) >= gate.threshold).mean() >= 0.9
    assert (gate.scope(outside, logits(outside)) < gate.threshold).mean() >= 0.9


def test_many_labels_are_compared_by_the_nearest_centres():
    gate, logits = gate_for([near(k, 6, k) for k in range(12)])
    inside = near(3, 4, 77)

    by_all = [
        max((gate.centres[k] @ x + (gate.examples[k] @ x).max()) / 2 for k in range(12))
        for x in inside
    ]
    general = np.sort(inside @ gate.general.T, axis=1)[:, -5:].mean(axis=1)
    expected = by_all + LOGIT_WEIGHT * logits(inside).max(axis=1) - GENERAL_WEIGHT * general
    np.testing.assert_allclose(gate.scope(inside, logits(inside)), expected, atol=1e-6)


def test_a_given_threshold_is_kept():
    assert gate_for([near(0, 5, 0)], threshold=-3.0)[0].threshold == -3.0


def test_one_example_a_label_refuses_what_general_requests_look_like():
    gate, logits = gate_for([near(0, 1, 0), near(1, 1, 1)])

    x = near(0, 1, 5)
    assert gate.scope(x, logits(x))[0] > gate.threshold
    refused = gate.scope(gate.general, logits(gate.general)) < gate.threshold
    assert refused.mean() > 0.9


def test_twins_do_not_vouch_for_each_other():
    # Sources known: each example is judged by the other source, far away. So the threshold
    # has to be lower than where twins may stay.
    twins = np.concatenate([near(0, 10, 0, 0.02), near(1, 10, 1, 0.02)])
    known = np.repeat([0, 1], 10)
    mixed = np.arange(20) % 2

    apart, _ = gate_for([twins], sources=known)
    together, _ = gate_for([twins], sources=mixed)

    assert apart.threshold < together.threshold


def test_what_stands_for_another_source():
    cosines = np.array([1.0, 0.9, 0.1, 0.8, 0.3, 0.2, 0.4, 0.5, 0.6, 0.7], np.float32)
    kinds = np.array([5, 5, 5, 6, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])

    # A known source goes as a whole; of unknown ones the nearest fifth, but only of them.
    assert np.flatnonzero(~_elsewhere(cosines, kinds, 5)).tolist() == [0, 1, 2]
    assert np.flatnonzero(~_elsewhere(cosines, kinds, UNKNOWN)).tolist() == [9]
    # A label of one source must not become empty.
    alone = _elsewhere(cosines, np.full(10, 5), 5)
    assert np.flatnonzero(~alone).tolist() == [0, 1]


def test_the_balanced_threshold():
    inside, outside = np.array([3.0, 4.0, 5.0, 6.0]), np.array([0.0, 1.0, 2.0])
    assert _balanced(inside, np.ones(4), outside) == 2.5
    # Two labels count the same, however many examples one has.
    inside = np.array([1.0] * 9 + [5.0])
    outside = np.array([2.0] * 10 + [0.0] * 5)
    assert _balanced(inside, np.array([1 / 9] * 9 + [1.0]), outside) == 3.5
    assert _balanced(inside, np.ones(10), outside) == 0.5


def test_held_out_examples_are_sampled_not_all_used():
    # 5,000 examples must not make the threshold slow; the sample is spread over the labels.
    groups = [near(k, 1700, k) for k in range(3)]
    vectors = np.concatenate(groups)
    labels = np.repeat(np.arange(3), 1700)
    held_out = HeldOut(np.arange(5100), vectors @ np.eye(SIZE, 3, dtype=np.float32))
    general = General(near(20, 30, 9, 0.3), np.arange(30) % 3)
    gate = fit_gate(
        vectors, labels, np.full(5100, UNKNOWN), 3, held_out, general,
        np.zeros((30, 3), np.float32), None,
    )  # fmt: skip

    assert np.isfinite(gate.threshold)
    assert all(len(own) <= 512 for own in gate.examples)
