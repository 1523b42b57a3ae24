"""P1: decomposing a 2048 x 8192 weight, against torch.linalg.svd on the same threads.

Figures wanted: at least 5 times faster; the cached file at most a quarter of U, S and V.
"""

from __future__ import annotations

from statistics import median

import torch

from t2agent.bench.shapes import clock, private_cache
from t2agent.svf import decomposition
from t2agent.svf.basis import decompose


def run(rows: int = 2048, columns: int = 8192, repeats: int = 3) -> dict[str, float]:
    """Seconds of both (median; the slow one is timed once between the runs), and bytes kept."""
    torch.manual_seed(0)
    weight = torch.randn(rows, columns)
    decompose(weight[:256, :512])  # what the libraries set up on first use
    torch.linalg.svd(weight[:256, :512], full_matrices=False)
    ours = [clock(lambda: decompose(weight)) for _ in range(repeats)]
    svd = clock(lambda: torch.linalg.svd(weight, full_matrices=False))
    ours += [clock(lambda: decompose(weight)) for _ in range(repeats)]
    with private_cache():
        key = decomposition.basis_key(weight, None)
        decomposition.store_basis(key, decompose(weight))
        kept = decomposition.path(key).stat().st_size
    rank = min(rows, columns)
    factors = 4 * (rows * rank + rank + rank * columns)
    return {
        "threads": torch.get_num_threads(),
        "svd_seconds": svd,
        "decompose_seconds": median(ours),
        "times_faster": svd / median(ours),
        "bytes_kept": kept,
        "bytes_ratio": kept / factors,
    }
