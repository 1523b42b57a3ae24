"""P5: CLINC150 (Larson et al. 2019), 150 intents, with 10 examples a label and with all.

Figures wanted: accuracy at least .905 / .950; out-of-scope AUROC at least .955 / .970; calibration
error at most .02 in both.

The 10 are drawn at random, as is usual: in the file, a label's examples lie in the order in which
people wrote them down, so the first ones are variations of few sentences (accuracy with those is
some .06 lower).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from t2agent.bench.datasets import CLINC, read_json
from t2agent.bench.shapes import private_cache
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.errors import ConfigError

_BINS = 15

Values = NDArray[np.float64]
Rows = Sequence[Sequence[str]]


def run(data: str = str(CLINC), few: int = 10, draws: int = 3) -> dict[str, Any]:
    """Accuracy, AUROC of the scope against the test set's requests out of scope, and calibration.

    Also the shares that the gate passes (in scope) and refuses (out of scope).

    Args:
        data: the data set's file: {"train": [[text, label], ...], "test": ..., "oos_test": ...}.
        few: how many examples a label has in the first case.
        draws: how often they are drawn; the figures are means over the draws.

    Raises:
        ConfigError: the file is missing or has no such content.
    """
    sets = read_json(data)
    missing = {"train", "test", "oos_test"} - set(sets)
    if missing:
        raise ConfigError(f"{data} lacks {', '.join(sorted(missing))}; give CLINC150's data_full")
    if few < 1 or draws < 1:
        raise ConfigError(f"few is {few} and draws is {draws}; each must be at least 1")
    examples: dict[str, list[str]] = {}
    for text, label in sets["train"]:
        examples.setdefault(label, []).append(text)
    with private_cache():
        drawn = [
            _measure(_draw(examples, few, seed), sets["test"], sets["oos_test"])
            for seed in range(draws)
        ]
        return {
            "few": {key: fmean(figures[key] for figures in drawn) for key in drawn[0]},
            "all": _measure(examples, sets["test"], sets["oos_test"]),
        }


def _draw(examples: Mapping[str, Sequence[str]], few: int, seed: int) -> dict[str, list[str]]:
    draw = random.Random(seed)
    return {label: draw.sample(own, min(few, len(own))) for label, own in examples.items()}


def _measure(
    examples: Mapping[str, Sequence[str]], inside: Rows, outside: Rows
) -> dict[str, float]:
    dispatcher = EmbeddingDispatcher().fit(examples)
    texts, truth = [row[0] for row in inside], np.array([row[1] for row in inside])
    odds = dispatcher.scores(texts)
    right = np.array(dispatcher.labels)[odds.argmax(axis=1)] == truth
    scope_in = dispatcher.scope(texts)
    scope_out = dispatcher.scope([row[0] for row in outside])
    return {
        "accuracy": float(right.mean()),
        "auroc": auroc(scope_in, scope_out),
        "calibration_error": calibration_error(odds.max(axis=1), right),
        "passed": float((scope_in >= dispatcher.scope_threshold).mean()),
        "refused": float((scope_out < dispatcher.scope_threshold).mean()),
    }


def auroc(inside: Values, outside: Values) -> float:
    """How often a request in scope has the higher score of two."""
    truth = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(truth, np.concatenate([inside, outside])))


def calibration_error(confidence: Values, right: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy in 15 equal bins,
    each counting as many requests as it holds."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    distances = np.abs(np.bincount(bins, confidence - right))  # sums, so already weighted
    return float(distances.sum() / len(confidence))
