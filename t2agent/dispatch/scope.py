"""Whether a request is one that the labels are meant for: a gate apart from the classifier.

The classifier's confidence says which label fits best, not whether any does. The gate looks at

    scope(x) = max over labels of (cos(x, centre) + cos(x, nearest example)) / 2
               + 0.02 * greatest logit
               - 0.6 * mean of the 5 greatest cosines with general requests

The centre of a label is the mean of its examples; the greatest logit is a similarity as well, with
the direction that sets a label apart; the general requests (chat, writing, facts, errands ...)
ship with t2agent and take out what a request has in common with any other. Measured on CLINC150
(150 labels) and on three domains whose requests come from other sources than the examples; the
same three weights serve both.

The threshold is cross-validated *across sources*: the similarity of each example is taken as if
its source were not there. Random folds would leave an example's twins in and put the threshold so
high that requests from elsewhere are refused. Of shipped requests the source is known by their
kind; of other examples, the fifth that lies nearest stands for it. On the other side stand the
general requests, without those of their own kind, as far as the labels are not about them. The
threshold has the greatest balanced accuracy, each label counting the same; since that is noisy,
the middle of all that come within 0.01 of it. Examples from one source are too much alike to tell
how far requests from elsewhere lie, so the threshold is never above what 0.93 of those general
requests stay below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.classifier import HeldOut, Labels
from t2agent.dispatch.encoder import Vectors

LOGIT_WEIGHT = 0.02
GENERAL_WEIGHT = 0.6
_GENERAL_NEAREST = 5
_LEFT_OUT = 0.2
_AS_GOOD = 0.01
_REFUSED = 0.93
_ABOUT = 0.5  # general requests nearer to a label than this share of the examples are about it
_LABELS_COMPARED = 5  # by their centres; comparing with all examples of 150 labels takes too long
_EXAMPLES_COMPARED = 512  # a label
_POSITIVES = 2_000

UNKNOWN = -1

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class General:
    """General requests: vectors (n, dimension) and the number of each one's kind (n,)."""

    vectors: Vectors
    kinds: Labels


@dataclass(frozen=True, slots=True)
class Gate:
    """centres: (labels, dimension); examples: a (n, dimension) for each label."""

    centres: Vectors
    examples: tuple[Vectors, ...]
    general: Vectors
    threshold: float

    def scope(self, vectors: Vectors, logits: Vectors) -> Values:
        """(texts, dimension), (texts, labels) -> (texts,); high is in scope."""
        near = self._similarity(vectors, vectors @ self.centres.T)
        return _scope(near, logits, _mean_of_greatest(vectors @ self.general.T))

    def _similarity(self, vectors: Vectors, to_centres: Vectors) -> Values:
        found = np.empty(len(vectors))
        for row, (x, to_centre) in enumerate(zip(vectors, to_centres, strict=True)):
            found[row] = max(
                (to_centre[k] + (self.examples[k] @ x).max()) / 2 for k in _candidates(to_centre)
            )
        return found


def fit_gate(
    vectors: Vectors,
    labels: Labels,
    sources: Labels,
    n_labels: int,
    held_out: HeldOut,
    general: General,
    general_logits: Vectors,
    threshold: float | None,
) -> Gate:
    """Collect what the gate compares with; cross-validate the threshold unless one is given.

    vectors: (examples, dimension); labels: (examples,); sources: (examples,), the number of each
    one's source, UNKNOWN where it is not known; general_logits: (general, labels).
    """
    groups = [vectors[rows] for rows in _rows_of(labels, n_labels)]
    centres = np.stack([_unit(group.sum(axis=0)) for group in groups])
    examples = tuple(group[:_EXAMPLES_COMPARED] for group in groups)
    gate = Gate(centres, examples, general.vectors, 0.0)
    if threshold is None:
        threshold = _threshold(gate, vectors, labels, sources, held_out, general, general_logits)
    return Gate(centres, examples, general.vectors, threshold)


def _threshold(
    gate: Gate,
    vectors: Vectors,
    labels: Labels,
    sources: Labels,
    held_out: HeldOut,
    general: General,
    general_logits: Vectors,
) -> float:
    pick = slice(None, None, max(1, len(held_out.rows) // _POSITIVES))
    rows, logits = held_out.rows[pick], held_out.logits[pick]
    near = _held_out_similarity(gate, vectors, labels, sources, rows)
    inside = _scope(near, logits, _mean_of_greatest(vectors[rows] @ general.vectors.T))

    alike = general.vectors @ general.vectors.T
    alike[general.kinds[:, None] == general.kinds] = -1.0
    to_labels = gate._similarity(general.vectors, general.vectors @ gate.centres.T)
    outside = _scope(to_labels, general_logits, _mean_of_greatest(alike))
    if not len(rows):
        # One example a label: nothing can be left out. Refuse what general requests look like.
        return float(np.quantile(outside, _REFUSED))
    apart = to_labels < np.quantile(near, _ABOUT)
    if apart.any():
        outside = outside[apart]
    counts = np.bincount(labels[rows], minlength=len(gate.centres))
    balanced = _balanced(inside, 1.0 / counts[labels[rows]], outside)
    return min(balanced, float(np.quantile(outside, _REFUSED)))


def _held_out_similarity(
    gate: Gate, vectors: Vectors, labels: Labels, sources: Labels, rows: Labels
) -> Values:
    found = np.empty(len(rows))
    groups = _rows_of(labels, len(gate.centres))
    for place, row in enumerate(rows):
        x, label = vectors[row], labels[row]
        own = vectors[groups[label]]
        to_own = own @ x
        kept = _elsewhere(to_own, sources[groups[label]], sources[row])
        to_centre = gate.centres @ x
        to_centre[label] = x @ _unit(own[kept].sum(axis=0))
        nearest = to_own[kept].max()
        found[place] = max(
            (to_centre[k] + (nearest if k == label else (gate.examples[k] @ x).max())) / 2
            for k in _candidates(to_centre)
        )
    return found


def _rows_of(labels: Labels, n_labels: int) -> list[Labels]:
    """The rows of each label, in their order."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=n_labels))[:-1])


def _elsewhere(cosines: Vectors, sources: Labels, source: int) -> NDArray[np.bool_]:
    """Which examples of a label are from other sources than one of them: (n,)."""
    same = sources == source
    if source == UNKNOWN or same.all():
        candidates = np.flatnonzero(same)
        left_out = max(1, round(_LEFT_OUT * len(candidates)))
        nearest = candidates[np.argsort(-cosines[candidates], kind="stable")[:left_out]]
        same = np.zeros(len(cosines), bool)
        same[nearest] = True
    return np.asarray(~same)


def _candidates(to_centre: Vectors) -> Sequence[int] | Labels:
    if len(to_centre) <= _LABELS_COMPARED:
        return range(len(to_centre))
    return np.argpartition(to_centre, -_LABELS_COMPARED)[-_LABELS_COMPARED:]


def _scope(near: Values, logits: Vectors, to_general: Values) -> Values:
    score: Values = near + LOGIT_WEIGHT * logits.max(axis=1) - GENERAL_WEIGHT * to_general
    return score


def _mean_of_greatest(cosines: Vectors) -> Values:
    greatest = np.partition(cosines, -_GENERAL_NEAREST, axis=1)[:, -_GENERAL_NEAREST:]
    return np.asarray(greatest.mean(axis=1), np.float64)


def _balanced(inside: Values, weights: Values, outside: Values) -> float:
    """The threshold with the greatest mean of the weighted share of `inside` that passes and the
    share of `outside` that does not, or the middle of those that are as good."""
    order = np.argsort(inside, kind="stable")
    refused = np.concatenate([[0.0], np.cumsum(weights[order] / weights.sum())])
    values = np.unique(np.concatenate([inside, outside]))
    cuts = np.concatenate([[values[0] - 0.01], (values[1:] + values[:-1]) / 2])
    passing = 1 - refused[np.searchsorted(inside[order], cuts)]
    stopped = np.searchsorted(np.sort(outside), cuts) / len(outside)
    accuracy = (passing + stopped) / 2
    good = cuts[accuracy >= accuracy.max() - _AS_GOOD]
    return float((good[0] + good[-1]) / 2)


def _unit(vector: Vectors) -> Vectors:
    # A sum of unit vectors may vanish; then it is as far from everything.
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
