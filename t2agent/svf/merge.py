"""W' written into the weights, for long runs with one mixture, and a cache of such weights.

The merged weight is a tensor of its own, put in the place of the layer's parameter and taken out
again: the base weight is never written, and nothing is unmerged by arithmetic. A parameter that
several modules share is replaced in one of them only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.svf.basis import Basis
from t2agent.svf.layer import is_offloaded, is_plain

_BLOCK = 256  # rows of a block of the r x r product

Merged = dict[str, nn.Parameter | None]


def check_writable(layers: Mapping[str, nn.Module]) -> None:
    """Raise ConfigError where a weight is offloaded, quantised or on the meta device."""
    for name, layer in layers.items():
        weight: Any = layer.weight
        if is_offloaded(layer) or weight.device.type == "meta":
            raise ConfigError(
                f"cannot merge into {name}: its weight is offloaded; use adapted() instead"
            )
        if not is_plain(layer):
            raise ConfigError(
                f"cannot merge into {name}: its weight is quantised ({type(weight).__name__}, "
                f"{weight.dtype}); use adapted() instead"
            )


def merge(layer: nn.Module, basis: Basis, delta: Tensor) -> nn.Parameter:
    """`merged_weight` as a parameter without gradient."""
    with torch.inference_mode(False):  # it is kept, and may meet gradients later
        return nn.Parameter(merged_weight(layer, basis, delta), requires_grad=False)


@torch.no_grad()
def merged_weight(layer: nn.Module, basis: Basis, delta: Tensor) -> Tensor:
    """W + Q diag(delta) Q^T W (side "out") or W + W Q diag(delta) Q^T, in the weight's layout.

    delta: (r,) float32, sum_k a_k (z_k - 1); only its columns of Q up to the last that is not 0
    are read. `merge_gradient` has its gradient. Products are float32 at least, and rounded once to
    the weight's dtype: in bfloat16 throughout, W' would be off by twice as much. The layer's weight
    must be writable (see `check_writable`).
    """
    weight: Any = layer.weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    old: Tensor = weight.detach().to(dtype)
    left = _left(layer, basis)
    used = delta.nonzero()
    columns = int(used[-1]) + 1 if len(used) else 0
    q = basis.q[:, :columns].to(old.device, dtype)
    delta = delta[:columns].to(old.device, dtype)
    wide = max(old.shape)
    if 2 * columns * wide < len(q) * (wide + len(q) / 2):
        new = torch.addmm(old, q * delta, q.mT @ old) if left else old.addmm(old @ q * delta, q.mT)
    else:  # the r x r product comes first: it is never larger than the weight
        change = _symmetric(q, delta)
        new = torch.addmm(old, change, old) if left else torch.addmm(old, old, change)
    return new.to(weight.dtype)


@torch.no_grad()
def merge_gradient(
    layer: nn.Module, basis: Basis, gradient: Tensor, columns: int | None = None
) -> Tensor:
    """The gradient of a loss with respect to the delta of `merged_weight`: (r,) float32 at least.

    d loss / d delta_i = q_i^T (G W^T) q_i on side "out", and q_i^T (W^T G) q_i on side "in".

    gradient: G, with respect to W', in the weight's layout. columns: only those of the first that
    many values are asked for, the others are 0. Products are in bfloat16 where the weight is: its
    gradient has no more digits; else in float32 at least.
    """
    weight: Any = layer.weight
    dtype = weight.dtype
    if dtype != torch.bfloat16:
        dtype = torch.promote_types(dtype, torch.float32)
    exact = torch.promote_types(dtype, torch.float32)
    old, gradient = weight.detach().to(dtype), gradient.to(dtype)
    q = basis.q[:, :columns].to(old.device, dtype)
    left = _left(layer, basis)
    if 2 * q.shape[1] * max(old.shape) < len(q) * (max(old.shape) + q.shape[1]):
        pair = (q.mT @ gradient, q.mT @ old) if left else ((gradient @ q).mT, (old @ q).mT)
        inner = pair[0].to(exact) * pair[1]
        found = inner.sum(1, dtype=exact)
    else:
        change = gradient @ old.mT if left else old.mT @ gradient
        found = ((change @ q).to(exact) * q).sum(0)
    return nn.functional.pad(found, (0, basis.size - len(found)))


def _left(layer: nn.Module, basis: Basis) -> bool:
    """Whether the correction comes from the left; in Conv1D's transposed weight, what corrects
    y = W x from the left comes from the right."""
    return (basis.side == "out") != isinstance(layer, Conv1D)


def _symmetric(q: Tensor, delta: Tensor) -> Tensor:
    """Q diag(delta) Q^T, of (r, k) and (k,); only blocks on and below the diagonal are multiplied
    out."""
    size = len(q)
    scaled, product = q * delta, q.new_empty(size, size)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        torch.mm(scaled[start:stop], q[:stop].mT, out=product[start:stop, :stop])
        product[:start, start:stop] = product[start:stop, :start].mT
    return product


def correction_flops(size: int) -> int:
    """Floating-point operations that `_symmetric` spends on a basis of that size."""
    stops = (min(start + _BLOCK, size) for start in range(0, size, _BLOCK))
    return sum(2 * size * stop * (stop - (stop - 1) // _BLOCK * _BLOCK) for stop in stops)


class MergedCache:
    """Merged weights by mixture, the least recently used forgotten first.

    budget: bytes that may be kept. Weights larger than that are used, but not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[Hashable, Merged] = OrderedDict()

    def get(self, key: Hashable) -> Merged | None:
        """The weights of a mixture, if they are still kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, merged: Merged) -> None:
        """Keep the weights of a mixture, as far as the budget allows."""
        self._kept[key] = merged
        while self._kept and self.bytes > self.budget:
            self._kept.popitem(last=False)

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        kept = (p for merged in self._kept.values() for p in merged.values() if p is not None)
        return sum(p.numel() * p.element_size() for p in kept)


class WeightSwitch:
    """Which weights stand in the layers now: the base model's, or merged ones."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = layers
        self._base: Merged = {}

    @contextmanager
    def use(self, merged: Merged) -> Iterator[None]:
        """`merged` instead of the base weights while inside ({} is the base model).

        Whatever stood there before comes back afterwards. The caller owns the weights.
        """
        before = {name: self._layers[name]._parameters["weight"] for name in self._base}
        self._put(merged)
        try:
            yield
        finally:
            self._put(before)

    @property
    def is_base(self) -> bool:
        """Whether every layer has its own weight."""
        return not self._base

    def _put(self, merged: Merged) -> None:
        for name, parameter in self._base.items():
            self._layers[name]._parameters["weight"] = parameter
        self._base = {name: self._layers[name]._parameters["weight"] for name in merged}
        for name, parameter in merged.items():
            self._layers[name]._parameters["weight"] = parameter
