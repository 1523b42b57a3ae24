"""Which label: logistic regression on unit vectors, with a calibrated temperature.

The regression is scikit-learn's, C = 10, fitted once; its coefficients are taken out, since
calling scikit-learn for a single request costs more than the arithmetic.

A label's name counts as one more example: with ten examples a label, it is worth .003 of the
accuracy on CLINC150, and draws that went badly gain most.

The temperature divides the logits before the softmax. It minimises the negative log-likelihood of
examples that the regression was not fitted on (Guo et al. 2017, with cross-validation in place of
a validation set).

With hundreds of labels, the solver stops after ten steps, and one fold is enough: it is nearly done
by then (CLINC150 with ten examples a label: .910 after ten steps, .908 after the eighteen that it
takes to converge).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.encoder import Vectors

C = 10.0
FOLDS = 5
_ENOUGH = 4_000  # held-out examples settle one number; further folds would only take time
_LARGE = 2_500_000  # examples times labels; CLINC150 with all its examples is below
_FEW_STEPS = 10
_LOG_TEMPERATURES = (-3.0, 2.0)

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Classifier:
    """Label k has logit ``weight[k] @ x + bias[k]``; ``temperature`` divides it.

    weight: float32 (labels, dimension); bias: float32 (labels,).
    """

    weight: Vectors
    bias: Vectors
    temperature: float

    def logits(self, vectors: Vectors) -> Vectors:
        """Before the temperature: (texts, dimension) -> (texts, labels)."""
        return vectors @ self.weight.T + self.bias

    def probabilities(self, logits: Vectors) -> NDArray[np.float64]:
        """Calibrated, (texts, labels) -> (texts, labels); each row adds up to 1."""
        scaled = logits.astype(np.float64) / self.temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        odds = np.exp(scaled)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Logits of examples that were left out of the fit: rows (n,), logits (n, labels)."""

    rows: Labels
    logits: Vectors

    @classmethod
    def none(cls, labels: int) -> HeldOut:
        """Of no example."""
        return cls(np.zeros(0, np.int64), np.zeros((0, labels), np.float32))


def fit_classifier(
    vectors: Vectors,
    labels: Labels,
    names: Vectors,
    temperature: float | None,
) -> tuple[Classifier, HeldOut]:
    """Fit the regression; cross-validate the temperature unless one is given.

    vectors: (examples, dimension); labels: (examples,), each of 0 ... labels - 1 occurs; names:
    (labels, dimension), one more example of each label. The examples of a label are dealt to the
    folds in their order; its name is in all of them.
    """
    weight, bias = _regression(vectors, labels, names)
    held_out = _cross_validate(vectors, labels, names)
    if temperature is None:
        temperature = _best_temperature(held_out, labels)
    return Classifier(weight, bias, temperature), held_out


def _is_large(examples: int, labels: int) -> bool:
    """Whether fitting takes seconds."""
    return examples * labels > _LARGE


def _regression(vectors: Vectors, labels: Labels, names: Vectors) -> tuple[Vectors, Vectors]:
    n_labels = len(names)
    if n_labels == 1:  # nothing to tell apart
        return np.zeros((1, vectors.shape[1]), np.float32), np.zeros(1, np.float32)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Balanced: how many examples an expert's card has says nothing on how often it is needed.
    steps = _FEW_STEPS if _is_large(len(vectors), n_labels) else 1_000
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.concatenate([vectors, names]), np.concatenate([labels, np.arange(n_labels)]))
    weight, bias = model.coef_, model.intercept_
    if n_labels == 2:  # scikit-learn gives one row, the second label's
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    # By rows: safetensors writes other arrays wrongly.
    return np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)


def _cross_validate(vectors: Vectors, labels: Labels, names: Vectors) -> HeldOut:
    n_labels = len(names)
    enough = 1 if _is_large(len(vectors), n_labels) else _ENOUGH
    counts = np.bincount(labels, minlength=n_labels)
    rank = np.empty_like(labels)
    for label in range(n_labels):
        rank[labels == label] = np.arange(counts[label])
    # A label's only example stays in: without it, the label would be unknown.
    fold = np.where(counts[labels] > 1, rank % FOLDS, -1)
    rows: list[Labels] = []
    logits: list[Vectors] = []
    for number in range(FOLDS):
        out = np.flatnonzero(fold == number)
        if not len(out) or sum(map(len, rows)) >= enough:
            break
        kept = fold != number
        weight, bias = _regression(vectors[kept], labels[kept], names)
        rows.append(out)
        logits.append(vectors[out] @ weight.T + bias)
    if not rows:
        return HeldOut.none(n_labels)
    return HeldOut(np.concatenate(rows), np.concatenate(logits))


def _best_temperature(held_out: HeldOut, labels: Labels) -> float:
    if not len(held_out.rows) or held_out.logits.shape[1] == 1:
        return 1.0
    from scipy.optimize import minimize_scalar

    truth = labels[held_out.rows]
    logits = held_out.logits - held_out.logits.max(axis=1, keepdims=True)
    own = float(logits[np.arange(len(truth)), truth].mean())

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        spread = np.log(np.exp(logits / temperature).sum(axis=1)).mean()
        # Worth one example: with a handful of them, the likelihood alone runs to the bounds.
        return float(spread - own / temperature + log_temperature**2 / len(truth))

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))
