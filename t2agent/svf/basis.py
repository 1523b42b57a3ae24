"""The basis of one weight: its singular vectors on the narrow side, and its singular values.

Transformer^2 (arXiv 2501.06252, eq. 1) writes W = U diag(s) V^T and learns z in
W' = U diag(s z) V^T. With Q the singular vectors of the narrow side,

    m <= n:  Q = U,  W' = Q diag(z) Q^T W    (side "out": the output is transformed)
    m >  n:  Q = V,  W' = W Q diag(z) Q^T    (side "in": the input is transformed)

so the wide side's vectors are never needed, and one symmetric eigendecomposition of an
r x r Gram matrix, r = min(m, n), replaces the singular value decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from t2agent.errors import ConfigError

Side = Literal["out", "in"]

_BLOCK = 512  # rows of a block of the Gram matrix: large enough for full matrix-product speed


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Singular vectors and values of one weight W of m x n (out x in), r = min(m, n).

    q: (r, r), column i belongs to s[i]; in the dtype of the weight.
    s: (r,), falling, float32 (float64 for a float64 weight).
    side: "out" where m <= n (q = U), "in" where m > n (q = V).
    offset: (r,) float32, Q^T b, for side "out" of a layer with a bias b; it lets the
        transform leave the bias out without touching it.
    """

    q: Tensor
    s: Tensor
    side: Side
    offset: Tensor | None = None

    @property
    def size(self) -> int:
        """r, the length of a z vector for this weight."""
        return self.q.shape[0]


def decompose(weight: Tensor, bias: Tensor | None = None, *, chunk: int = 2048) -> Basis:
    """The basis of `weight` (m, n), computed in float64.

    The Gram matrix of the narrow side is accumulated over `chunk` columns (rows) of the wide
    side, so that no float64 copy of the whole weight exists. Values fall; each vector's
    largest entry is positive, so that equal weights give equal bases. The result has the
    weight's dtype and lies on its device. With a bias (m,), the basis has its offset.

    Raises ConfigError for a weight that is not a finite floating matrix.
    """
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ConfigError(
            f"cannot decompose a tensor of shape {tuple(weight.shape)} and {weight.dtype}: "
            "a floating matrix (out x in) is needed"
        )
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}: a positive number of columns is needed")
    side: Side = "out" if weight.shape[0] <= weight.shape[1] else "in"
    narrow = weight.detach() if side == "out" else weight.detach().mT
    # Apple's GPUs have no float64.
    work = narrow.device if narrow.device.type != "mps" else torch.device("cpu")
    gram = _gram(narrow, chunk, work)
    # A value that is not finite makes an entry of the diagonal so.
    if not bool(torch.isfinite(gram.diagonal()).all()):
        raise ConfigError(
            f"the weight of shape {tuple(weight.shape)} holds values that are not finite"
        )
    values, vectors = torch.linalg.eigh(gram)
    q = vectors.flip(1)
    top = q.abs().argmax(0, keepdim=True)
    q = q * torch.where(q.gather(0, top) < 0, -1.0, 1.0)
    s = values.flip(0).clamp_min(0).sqrt()
    offset = None
    if bias is not None and side == "out":
        offset = (q.mT @ bias.detach().to(work, torch.float64)).to(weight.device, torch.float32)
    kept = weight.dtype
    exact = torch.float64 if kept == torch.float64 else torch.float32
    return Basis(q.to(weight.device, kept).contiguous(), s.to(weight.device, exact), side, offset)


def _gram(narrow: Tensor, chunk: int, work: torch.device) -> Tensor:
    """narrow @ narrow^T in float64; only blocks on and below the diagonal are computed."""
    size, wide = narrow.shape
    gram = torch.zeros(size, size, dtype=torch.float64, device=work)
    for start in range(0, wide, chunk):
        part = narrow[:, start : start + chunk].to(work, torch.float64)
        for row in range(0, size, _BLOCK):
            rows = slice(row, row + _BLOCK)
            # eigh reads the lower triangle alone.
            below = slice(0, row + _BLOCK)
            gram[rows, below].addmm_(part[rows], part[below].mT)
    return gram
