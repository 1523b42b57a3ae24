"""The change that an expert makes to a weight, as a product of low rank, and the way back.

With delta = z - 1 (for a mixture: sum_k a_k (z_k - 1)) the change of W = U diag(s) V^T is

    W' - W = U diag(delta s) V^T = sum_i delta_i s_i u_i v_i^T,

a sum of orthogonal terms of norm |delta_i| s_i: its singular values. The k largest of them are the
best approximation of rank k (Eckart and Young, 1936), and what is left out is its error. Only the
basis' vectors of the narrow side are known; the others come from s_i v_i = W^T u_i and
s_i u_i = W v_i.

All of it is computed in float64 (on the CPU, where the weight's device has none).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from t2agent.svf.basis import Basis, decompose

_CHUNK = 2048  # of the wide side at a time, so that no float64 copy of a weight exists
# Below this part of the largest singular value a direction is rounding, in float32 as well.
_NOISE = 1e-6


class LowRank(NamedTuple):
    """B A, close to the change of a weight W of m x n.

    b: (m, k) and a: (k, n) float64, k <= the rank asked for; column i of b is as long as row i of
        a, so that neither leaves the range of a narrow dtype.
    moved: how many directions the change moves: k, unless some were left out.
    norm, left: Frobenius norms of the whole change, and of what was left out.
    """

    b: Tensor
    a: Tensor
    moved: int
    norm: float
    left: float


class Projection(NamedTuple):
    """A change of a weight, as far as its singular directions can express it.

    delta: (r,) float64; the change's part along direction i is delta_i s_i u_i v_i^T.
    norm, kept: Frobenius norms of the whole change, and of the part that delta expresses.
    """

    delta: Tensor
    norm: float
    kept: float


def moved(basis: Basis, delta: Tensor) -> int:
    """How many directions delta (r,) moves: the rank of the change."""
    return int(_sizes(basis, delta).count_nonzero())


def largest(basis: Basis, delta: Tensor) -> Tensor:
    """The directions of delta (r,), those that change the weight most first: (r,) int64."""
    return _sizes(basis, delta).argsort(descending=True, stable=True)


def low_rank(weight: Tensor, basis: Basis, delta: Tensor, rank: int) -> LowRank:
    """The best approximation, of at most that rank, of what delta (r,) changes in W (m, n).

    It is exact where delta moves no more directions than that.
    """
    narrow, q = _narrow(weight, basis)
    sizes = _sizes(basis, delta).to(q.device)
    order = largest(basis, delta).to(q.device)
    count = int(sizes.count_nonzero())
    kept = order[: min(rank, count)]
    ours = q[:, kept]
    theirs = torch.cat(
        [ours.mT @ narrow[:, start : start + _CHUNK].to(q) for start in _starts(narrow)], 1
    )  # (k, wide); row i is s_i long
    root = sizes[kept].sqrt()
    sign = delta.to(q)[kept].sign()
    stretch = root / basis.s.to(q)[kept]
    if basis.side == "out":
        b, a = ours * (sign * root), theirs * stretch[:, None]
    else:
        b, a = theirs.mT * (sign * stretch), (ours * root).mT
    rest = sizes[order[len(kept) :]]
    return LowRank(b, a, count, float(sizes.norm()), float(rest.norm()))


def project(weight: Tensor, basis: Basis, b: Tensor, a: Tensor) -> Projection:
    """The change B A, b (m, k) and a (k, n), in the directions of W (m, n).

    delta_i = u_i^T (B A) v_i / s_i is the nearest that can be had (least squares, since the terms
    are orthogonal); B A is never multiplied out. Directions whose singular value is rounding
    express nothing, and delta is 0 there.
    """
    narrow, q = _narrow(weight, basis)
    b, a = b.to(q), a.to(q)
    near, far = (b, a.mT) if basis.side == "out" else (a.mT, b)
    through = torch.zeros_like(near)
    for start in _starts(narrow):
        through += narrow[:, start : start + _CHUNK].to(q) @ far[start : start + _CHUNK]
    along = ((q.mT @ near) * (q.mT @ through)).sum(1)  # s_i u_i^T (B A) v_i
    s = basis.s.to(q)
    usable = s > _NOISE * s.max()
    delta = torch.where(usable, along / torch.where(usable, s, 1).square(), 0)
    return Projection(delta, product_norm(b, a), float((delta * s).norm()))


def product_norm(b: Tensor, a: Tensor) -> float:
    """Frobenius norm of B A, b (m, k) and a (k, n), from two k x k matrices."""
    b, a = b.double(), a.double()
    return float(((b.mT @ b) * (a @ a.mT)).sum().clamp_min(0).sqrt())


def rounding(b: Tensor, a: Tensor, dtype: torch.dtype) -> float:
    """Frobenius norm of the difference that rounding b (m, k) and a (k, n) makes to B A."""
    rounded_b, rounded_a = b.to(dtype).to(b.dtype), a.to(dtype).to(a.dtype)
    # B A - B' A' = (B - B') A + B' (A - A'); each part is small by itself.
    return product_norm(torch.cat([b - rounded_b, rounded_b], 1), torch.cat([a, a - rounded_a]))


def sharpened(weight: Tensor, basis: Basis) -> Basis:
    """The basis of W (m, n) with vectors in float32 at least.

    Vectors rounded to bfloat16 are orthogonal to three digits only, too few to measure by.
    """
    return basis if basis.q.element_size() >= 4 else decompose(weight.float())


def _sizes(basis: Basis, delta: Tensor) -> Tensor:
    """(r,) float64: the singular values of the change, in the order of the weight's."""
    return delta.detach().cpu().double().abs() * basis.s.cpu().double()


def _narrow(weight: Tensor, basis: Basis) -> tuple[Tensor, Tensor]:
    """W with its narrow side first, (r, wide), and q (r, r) in float64 beside it."""
    weight = weight.detach()
    # Apple's GPUs have no float64.
    weight = weight.cpu() if weight.device.type == "mps" else weight
    return (
        weight if basis.side == "out" else weight.mT,
        basis.q.to(weight.device, torch.float64),
    )


def _starts(narrow: Tensor) -> range:
    return range(0, narrow.shape[1], _CHUNK)
