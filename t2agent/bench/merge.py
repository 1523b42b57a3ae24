"""P2: merging one expert into a model of the shape of Qwen2-0.5B, in bfloat16.

Figures wanted: at least 0.85 of the machine's matrix-product rate, measured in the same run; a
switch to weights that are kept in under 1 ms.
"""

from __future__ import annotations

from statistics import median

import torch

from t2agent.bench.shapes import clock, expert, private_cache, qwen2
from t2agent.models.model import T2Model
from t2agent.svf.layer import shape
from t2agent.svf.merge import correction_flops

_KEPT = 1  # mixtures in the cache of merged weights


def flops(model: T2Model) -> float:
    """Floating-point operations of one merge: two for each multiplication that is carried out."""
    total = 0
    for layer in model.targets.layers.values():
        m, n = shape(layer)
        total += correction_flops(min(m, n)) + 2 * min(m, n) ** 2 * max(m, n)
    return float(total)


def product_rate(seconds: float = 1.0) -> float:
    """Operations a second of a large product in float32, as merging has them, over about as long
    as a merge."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    out = torch.empty_like(a)
    count, spent = 0, 0.0
    while spent < seconds:
        spent += clock(lambda: torch.mm(a, b, out=out))
        count += 1
    return count * 2 * 2048**3 / spent


def run(repeats: int = 4) -> dict[str, float]:
    """Rates of merging and of plain products, taken in turn; medians of the ratios.

    The first merges, as many as are kept, also pay for memory that the process never touched; they
    are told apart (``first_seconds``). A switch is entering and leaving `merged` again, all
    layers' weights put in and taken out.
    """
    with private_cache():
        model = qwen2()
        model.decompose(progress=False)
    experts = [expert(model, seed) for seed in range(_KEPT + 1 + repeats)]
    needed = flops(model)
    weights = [layer.weight for layer in model.targets.layers.values()]
    model.merged_cache.budget = _KEPT * sum(w.numel() * w.element_size() for w in weights)  # type: ignore[operator, misc]

    def enter(which: int) -> None:
        with model.merged(experts[which]):
            pass

    first = [clock(lambda which=which: enter(which)) for which in range(_KEPT + 1)]  # type: ignore[misc]
    ratios, rates, merges = [], [], []
    before = product_rate()
    for which in range(_KEPT + 1, len(experts)):
        seconds = clock(lambda which=which: enter(which))  # type: ignore[misc]
        after = product_rate()
        rates.append((before + after) / 2)
        merges.append(seconds)
        ratios.append(needed / seconds / rates[-1])
        before = after
    switches = [clock(lambda: enter(-1)) for _ in range(20)]
    return {
        "threads": torch.get_num_threads(),
        "first_seconds": median(first),
        "merge_seconds": median(merges),
        "merge_gflops": needed / median(merges) / 1e9,
        "product_gflops": median(rates) / 1e9,
        "ratio": median(ratios),
        "switch_ms": 1e3 * median(switches),
    }
