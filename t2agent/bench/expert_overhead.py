"""P8: one expert over 100 tokens of a model of the shape of Qwen2-0.5B, in bfloat16.

Figure wanted: at most 1.05 times the base model's time, the merge included. What a merge costs is
set by the ratio of the machine's matrix-product rate to its memory's speed (about 0.75 Tflop
against 100 readings of 1 GB), so the parts are shown too. Of an expert that moves 64 directions a
weight ("few_ratio", adapted, not merged): at most 1.06.
"""

from __future__ import annotations

import torch

from t2agent.bench.shapes import clock, decode, expert, private_cache, qwen2, ratio


def run(tokens: int = 100, pieces: int = 5, directions: int = 64) -> dict[str, float]:
    """The base model, `adapted` and `merged` take turns, `tokens` / `pieces` tokens at a time."""
    with private_cache():
        model = qwen2()
        model.decompose(progress=False)
    random_expert, few_directions = expert(model, 1), expert(model, 1, directions)
    model.merged_cache.budget = 2 << 30
    part = tokens // pieces

    def enter() -> None:
        with model.merged(random_expert):
            pass

    merging = clock(enter)
    base: list[float] = []
    adapted: list[float] = []
    merged: list[float] = []
    few: list[float] = []
    for turn in range(pieces + 1):
        for seconds, context in (
            (base, model.adapted(None)),
            (adapted, model.adapted(random_expert)),
            (merged, model.merged(random_expert)),
            (few, model.adapted(few_directions)),
        ):
            with context:
                prompt = decode(model, 1, 1)
                spent = clock(lambda prompt=prompt: decode(model, 1, part, prompt))  # type: ignore[misc]
                if turn:  # the first turn warms up
                    seconds.append(spent)
    whole = sum(base)
    return {
        "threads": torch.get_num_threads(),
        "tokens": part * pieces,
        "base_seconds": whole,
        "merge_seconds": merging,
        "merged_ratio": (merging + sum(merged)) / whole,
        "adapted_ratio": ratio(adapted, base),
        "few_ratio": ratio(few, base),
        "merged_again_ratio": ratio(merged, base),
        "ratio": min((merging + sum(merged)) / whole, sum(adapted) / whole),
    }
