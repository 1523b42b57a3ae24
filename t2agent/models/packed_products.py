"""What takes the rows of a step by packed weights: products with W, and what experts add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from t2agent.models.packed import PackedWeight

PRODUCTS = ("qkv", "o", "gate", "up", "down")
"""The products of a layer, by the fields of `Layer`."""


@dataclass(frozen=True, slots=True)
class RoundedWeight:
    """W (out, in) in 8 bits a number, with a scale for each row: int8, and bfloat16 (out,)."""

    numbers: Tensor
    scale: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> RoundedWeight:
        """A weight (out, in) float32, rounded."""
        scale = (weight.abs().amax(1).clamp_(min=1e-30) / 127).bfloat16()
        numbers = (weight / scale.float()[:, None]).round_().clamp_(-127, 127)
        return cls(numbers.to(torch.int8), scale)

    def __call__(self, x: Tensor) -> Tensor:
        """W x: (rows, in) bfloat16 -> (rows, out) bfloat16."""
        return torch._weight_int8pack_mm(x, self.numbers, self.scale)


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer, those of its norms in float32, times sqrt(width)."""

    before: Tensor
    after: Tensor
    qkv: Product
    o: Product
    gate: Product
    up: Product
    down: Product


@dataclass(frozen=True, slots=True)
class LowRank:
    """Q(delta * (Q^T x)) for the first k directions of a weight.

    Q and its transpose are rounded to 8 bits a number: what is added is off by a hundredth of its
    norm, about as much as bfloat16 rounds away of what it is added to.

    inner: (k, r). outer: (r, k). delta: (rows, k) bfloat16 where rows differ, else None and in the
    inner scale.
    """

    inner: RoundedWeight
    outer: RoundedWeight
    delta: Tensor | None = None

    @classmethod
    def of(cls, q: Tensor) -> LowRank:
        """Of the directions (r, k)."""
        return cls(RoundedWeight.of(q.mT.contiguous()), RoundedWeight.of(q.contiguous()))

    def by(self, delta: Tensor) -> LowRank:
        """With a delta (rows, k), or (1, k) for all rows."""
        if len(delta) > 1:
            return replace(self, delta=delta.bfloat16())
        scale = (self.inner.scale * delta[0]).bfloat16()
        return replace(self, inner=replace(self.inner, scale=scale))

    def repeated(self, times: int) -> LowRank:
        """For so many tokens of each row, side by side."""
        each = self.delta
        return self if each is None else replace(self, delta=each.repeat_interleave(times, 0))

    def __call__(self, x: Tensor) -> Tensor:
        """Of x (rows, r) bfloat16, in bfloat16."""
        inner = self.inner(x.contiguous())
        if self.delta is not None:
            inner.mul_(self.delta)
        return self.outer(inner)


@dataclass(frozen=True, slots=True)
class Several:
    """What takes rows that lie one below the other: of each part so many rows, and what takes them,
    None for what adds nothing to them."""

    parts: tuple[tuple[int, PackedWeight | RoundedWeight | LowRank | None], ...]
    outputs: int

    @classmethod
    def of(
        cls, counts: Sequence[int], each: Sequence[PackedWeight | RoundedWeight | LowRank | None]
    ) -> Any:
        """Of so many rows each; where all are taken by the same, that."""
        if all(one is each[0] for one in each):
            return each[0]
        outputs = next(_outputs(one) for one in each if one is not None)
        return cls(tuple(zip(counts, each, strict=True)), outputs)

    def repeated(self, times: int) -> Several:
        """For so many tokens of each row, side by side."""
        return replace(self, parts=tuple((count * times, one) for count, one in self.parts))

    def __call__(self, x: Tensor) -> Tensor:
        """Of x (rows, in) bfloat16, in bfloat16."""
        rows = x.split([count for count, _ in self.parts])
        return torch.cat(
            [
                own.new_zeros(len(own), self.outputs) if one is None else one(own)
                for (_, one), own in zip(self.parts, rows, strict=True)
            ]
        )


Product = PackedWeight | RoundedWeight | Several
Added = Mapping[str, LowRank | Several]
"""What experts add to one layer, by the names of what is added to at once."""
Adapted = tuple[Layer, Added]
"""One layer under a mixture."""


def below(counts: Sequence[int], each: Sequence[Adapted]) -> Adapted:
    """A layer for rows that lie one below the other, so many under each of these."""
    if len(each) == 1:
        return each[0]
    layers, added = zip(*each, strict=True)
    products = {
        product: Several.of(counts, [getattr(layer, product) for layer in layers])
        for product in PRODUCTS
    }
    names = dict.fromkeys(name for one in added for name in one)
    sums = {name: Several.of(counts, [one.get(name) for one in added]) for name in names}
    return replace(layers[0], **products), sums


def _outputs(one: PackedWeight | RoundedWeight | LowRank) -> int:
    if isinstance(one, PackedWeight):
        return one.scales.shape[1]
    return len((one.outer if isinstance(one, LowRank) else one).numbers)
