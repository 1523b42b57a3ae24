from __future__ import annotations

import numpy as np
import pytest

from t2agent.dispatch.classifier import fit_classifier


def unnamed(labels: int) -> np.ndarray:
    """Names that say nothing."""
    return np.zeros((labels, 16), np.float32)


def cloud(n: int, labels: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one centre a label, the labels in turn."""
    random = np.random.default_rng(seed)
    of = np.arange(n) % labels
    vectors = random.standard_normal((labels, 16))[of] + noise * random.standard_normal((n, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


@pytest.mark.parametrize("labels", [2, 3])
def test_it_is_scikit_learns_regression(labels):
    from sklearn.linear_model import LogisticRegression

    vectors, of = cloud(60, labels, 1.0)
    names = np.random.default_rng(5).normal(size=(labels, vectors.shape[1])).astype(np.float32)
    reference = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(
        np.concatenate([vectors, names]), np.concatenate([of, np.arange(labels)])
    )

    classifier, _ = fit_classifier(vectors, of, names, temperature=1.0)

    odds = classifier.probabilities(classifier.logits(vectors))
    np.testing.assert_allclose(odds, reference.predict_proba(vectors), atol=1e-4)


def test_each_held_out_example_was_left_out_of_the_fit():
    vectors, of = cloud(40, 2, 0.1)
    of = of.copy()
    of[0] = 1 - of[0]  # wrongly labelled, so a fit without it must contradict

    _, held_out = fit_classifier(vectors, of, unnamed(2), None)

    assert sorted(held_out.rows) == list(range(40))
    place = int(np.flatnonzero(held_out.rows == 0)[0])
    assert held_out.logits[place].argmax() == 1 - of[0]


def test_the_temperature_lowers_the_loss_on_held_out_examples():
    vectors, of = cloud(200, 3, 2.0)

    classifier, held_out = fit_classifier(vectors, of, unnamed(3), None)

    def loss(temperature: float) -> float:
        scaled = held_out.logits.astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        own = scaled[np.arange(len(scaled)), of[held_out.rows]]
        return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())

    found = classifier.temperature
    assert 0.05 < found < 7
    assert loss(found) <= min(loss(found * 1.5), loss(found / 1.5))


def test_labels_at_random_get_no_confidence():
    vectors, _ = cloud(200, 1, 5.0)
    of = np.random.default_rng(3).integers(0, 2, 200)

    classifier, _ = fit_classifier(vectors, of, unnamed(2), None)

    unseen, _ = cloud(100, 1, 5.0, seed=9)
    assert classifier.probabilities(classifier.logits(unseen)).max(axis=1).mean() < 0.65


def test_a_given_temperature_is_kept():
    vectors, of = cloud(30, 3, 1.0)

    assert fit_classifier(vectors, of, unnamed(3), 2.5)[0].temperature == 2.5


def test_one_label_is_certain():
    vectors, of = cloud(10, 1, 1.0)

    classifier, _ = fit_classifier(vectors, of, unnamed(1), None)

    assert classifier.temperature == 1.0
    assert classifier.probabilities(classifier.logits(vectors)).tolist() == [[1.0]] * 10


def test_one_example_a_label_leaves_nothing_to_validate_on():
    vectors, of = cloud(3, 3, 0.0)

    classifier, held_out = fit_classifier(vectors, of, unnamed(3), None)

    assert len(held_out.rows) == 0
    assert classifier.temperature == 1.0
    assert classifier.logits(vectors).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_name_is_an_example_in_every_fold():
    vectors, of = cloud(40, 2, 0.1)
    names = np.stack([vectors[of == 1][0], vectors[of == 0][0]])  # each is the other's

    _, plain = fit_classifier(vectors, of, unnamed(2), None)
    _, misled = fit_classifier(vectors, of, names, None)

    own = (np.arange(len(of)), of[plain.rows])
    assert (misled.logits[own] < plain.logits[own]).all()
