"""Whether a request that is near to a label is meant for it: learned from what it is *not* for.

The gate of `t2agent.dispatch.scope` goes by what a request is about: "Who invented the
multiplication sign?" is about arithmetic. For each label that comes with such requests, logistic
regression on unit vectors tells its examples from these, from general requests, and with less
weight from what other labels are not for, unless that is alike; a label without is told nothing
about, unless there are requests for experts that answer at other steps of a conversation, which
count as general ones.

Measured on t2-nano's experts, with near requests written apart from those on their cards: .99 of
them fall on the far side, and .998 of the experts' own requests on the near one. Requests for an
expert that come from other sources than its examples lie lower; the cut lets most of them pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.encoder import Vectors

C = 30.0
_CUT = -1.0  # log odds
_OTHERS = 0.3  # weight of what other labels are not for
_MOST_OTHERS = 2_000
_STEPS = 200
_ALIKE = 0.7  # cosine from which a request may be what a label is for


@dataclass(frozen=True, slots=True)
class Near:
    """weight: float32 (labels, dimension); bias: float32 (labels,), infinite for a label that
    nothing is known to be near to."""

    weight: Vectors
    bias: Vectors

    @classmethod
    def none(cls, labels: int, dimension: int) -> Near:
        """For labels that come without requests that they are not for."""
        return cls(np.zeros((labels, dimension), np.float32), np.full(labels, np.inf, np.float32))

    def margin(self, vectors: Vectors, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far each text (n, dimension) is on the right side of its label (n,): log odds."""
        odds = (vectors * self.weight[labels]).sum(axis=1) + self.bias[labels]
        return np.asarray(odds - _CUT, np.float64)


def fit_near(
    own: Mapping[int, Vectors], others: Mapping[int, Vectors], general: Vectors, labels: int
) -> Near:
    """Fit one regression for each label of ``others``.

    own, others: a label's number -> vectors of what it is for, and of what it is not (n,
    dimension); general: of general requests, which no label is for.
    """
    found = Near.none(labels, general.shape[1])
    if not others:
        return found
    from sklearn.linear_model import LogisticRegression

    every = np.concatenate(list(others.values()))
    start = 0
    for label, apart in others.items():
        # What nobody is for, or other labels are not, may still be what this one is for.
        rest = len(every) - len(apart)
        places = np.arange(0, rest, 1 + rest // _MOST_OTHERS)
        more = every[np.where(places < start, places, places + len(apart))]
        start += len(apart)
        parts = [own[label], apart, *(unlike(one, own[label]) for one in (general, more))]
        rows = np.concatenate(parts)
        weights = np.repeat([1.0, 1.0, 1.0, _OTHERS], [len(part) for part in parts])
        truth = np.arange(len(rows)) < len(own[label])
        weights[truth] *= weights[~truth].sum() / truth.sum()
        model = LogisticRegression(C=C, max_iter=_STEPS).fit(rows, truth, weights)
        found.weight[label], found.bias[label] = model.coef_[0], model.intercept_[0]
    return found


def unlike(vectors: Vectors, own: Vectors) -> Vectors:
    """Those of them (n, dimension) that are like none of a label's examples."""
    return np.asarray(vectors[(vectors @ own.T).max(axis=1) < _ALIKE], np.float32)
