"""From fitted examples to a choice of experts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.encoder import Vectors
from t2agent.dispatch.fitting import Fitted
from t2agent.experts.mixture import Mixture

Chosen = tuple[Mixture, dict[str, float], bool]
"""A mixture, each label's probability, and whether the request is in scope."""

_CLEAR = 0.5  # probability from which a text expert is taken for a request with an image


def choose(
    fitted: Fitted,
    vectors: Vectors,
    *,
    top_k: int,
    seeing: frozenset[str] | None = None,
    inside: Sequence[bool | None] | None = None,
    among: frozenset[str] | None = None,
) -> list[Chosen]:
    """Choose experts for requests.

    vectors: of the requests, (n, dimension). top_k: how many experts are mixed. seeing: of
    requests with images, the labels that are for images. inside: whether each request is in
    scope; None where the gate decides. among: the labels that may be chosen; None for all.
    """
    logits = fitted.classifier.logits(vectors)
    gated = fitted.gate.scope(vectors, logits) >= fitted.gate.threshold
    told = [None] * len(vectors) if inside is None else inside
    rows = fitted.classifier.probabilities(logits)
    found: list[Chosen] = []
    for row, by_gate, known in zip(rows, gated, told, strict=True):
        scope = bool(by_gate) if known is None else known
        mixture = _mixture(fitted.labels, row, top_k, seeing, among) if scope else Mixture()
        found.append((mixture, dict(zip(fitted.labels, map(float, row), strict=True)), scope))
    return found


def _mixture(
    labels: Sequence[str],
    odds: NDArray[np.float64],
    top_k: int,
    seeing: frozenset[str] | None,
    among: frozenset[str] | None,
) -> Mixture:
    if among is not None:
        odds = np.where([label in among for label in labels], odds, 0.0)
    elif seeing is not None and odds.max() <= _CLEAR:
        odds = np.where([label in seeing for label in labels], odds, 0.0)
    best = np.argsort(-odds, kind="stable")[:top_k]
    total = float(odds[best].sum())
    if top_k == 1 or total <= 0:
        return Mixture({labels[int(best[0])]: 1.0})
    return Mixture({labels[k]: float(odds[k]) / total for k in best if odds[k] > 0})
