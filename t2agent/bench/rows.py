"""P3: eight experts in one decoding batch, on a model of the shape of Qwen2-0.5B, in bfloat16.

Figures wanted: at least 7 times the throughput of one expert at a time; at most 1.5 times the
time of the same batch without experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

from t2agent.bench.shapes import clock, decode, expert, private_cache, qwen2, ratio

ROWS = 8


def run(tokens: int = 6, repeats: int = 5) -> dict[str, float]:
    """Seconds a token, the three ways taken in turn; medians of the ratios."""
    with private_cache():
        model = qwen2()
        model.decompose(progress=False)
    experts = [expert(model, seed) for seed in range(ROWS)]

    def timed(mixture: Sequence[object] | object, batch: int) -> float:
        with model.adapted(mixture):  # type: ignore[arg-type]
            prompt = decode(model, batch, 1)
            return clock(lambda: decode(model, batch, tokens, prompt)) / tokens

    timed(experts, ROWS)
    plain, mixed, alone = [], [], []
    for which in range(repeats):
        plain.append(timed(None, ROWS))
        mixed.append(timed(experts, ROWS))
        alone.append(timed(experts[which % ROWS], 1))
    return {
        "threads": torch.get_num_threads(),
        "plain_batch_ms": 1e3 * median(plain),
        "eight_experts_ms": 1e3 * median(mixed),
        "one_expert_ms": 1e3 * median(alone),
        "throughput_ratio": ROWS * ratio(alone, mixed),
        "cost_ratio": ratio(mixed, plain),
    }
