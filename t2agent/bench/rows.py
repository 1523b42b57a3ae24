"""P3: eight experts in one decoding batch, on a model of the shape of Qwen2-0.5B, in bfloat16.

Figures wanted: at least 7 times the throughput of one expert at a time; at most 1.5 times the
time of the same batch without experts. Of experts that move 64 directions a weight ("few"): 7.5
times, and 1.15. The throughput cannot exceed that of eight plain rows against one
("plain_throughput_ratio"), which is the machine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from t2agent.bench.shapes import clock, decode, expert, private_cache, qwen2, ratio
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model

ROWS = 8


def run(tokens: int = 6, repeats: int = 5, directions: int = 64) -> dict[str, Any]:
    """Seconds a token, the ways taken in turn; medians of the ratios."""
    with private_cache():
        model = qwen2()
        model.decompose(progress=False)
    experts = {
        "all": [expert(model, seed) for seed in range(ROWS)],
        "few": [expert(model, seed, directions) for seed in range(ROWS)],
    }
    for each in experts.values():
        _timed(model, each, ROWS, tokens)
    single, plain = [], []
    mixed: dict[str, list[float]] = {which: [] for which in experts}
    alone: dict[str, list[float]] = {which: [] for which in experts}
    for turn in range(repeats):
        single.append(_timed(model, None, 1, tokens))
        plain.append(_timed(model, None, ROWS, tokens))
        for which, each in experts.items():
            mixed[which].append(_timed(model, each, ROWS, tokens))
            alone[which].append(_timed(model, each[turn % ROWS], 1, tokens))

    def figures(which: str) -> dict[str, float]:
        return {
            "eight_experts_ms": 1e3 * median(mixed[which]),
            "one_expert_ms": 1e3 * median(alone[which]),
            "throughput_ratio": ROWS * ratio(alone[which], mixed[which]),
            "cost_ratio": ratio(mixed[which], plain),
        }

    return {
        "threads": torch.get_num_threads(),
        "plain_batch_ms": 1e3 * median(plain),
        "plain_throughput_ratio": ROWS * ratio(single, plain),
        **figures("all"),
        "few": {"directions": directions, **figures("few")},
    }


def _timed(
    model: T2Model, mixture: Sequence[Expert] | Expert | None, batch: int, tokens: int
) -> float:
    with model.adapted(mixture):
        prompt = decode(model, batch, 1)
        return clock(lambda: decode(model, batch, tokens, prompt)) / tokens
