"""Which layers and directions one expert moves, or two beside each other.

A value z_i of a weight multiplies its singular value s_i: z_i - 1 is the relative change of that
direction, s_i (z_i - 1) the absolute one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from t2agent.errors import ConfigError
from t2agent.experts.compatibility import common_base
from t2agent.experts.expert import Expert
from t2agent.experts.module_names import Place, place

if TYPE_CHECKING:
    from torch import Tensor


class Spectrum(Protocol):
    """What is asked of a weight's basis."""

    @property
    def s(self) -> Tensor:
        """The singular values, (r,), falling."""


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """What two experts do to one module of r directions.

    Attributes:
        module: its name.
        length: r.
        a, b: the root mean square of z - 1 over the directions.
        cosine: between the two displacements z - 1, in [-1, 1]; None where one is zero.
        moved_a, moved_b: how many directions each moves.
        shared, opposed: how many both move to the same side, and to different sides.
    """

    module: str
    length: int
    a: float
    b: float
    cosine: float | None
    moved_a: int
    moved_b: int
    shared: int
    opposed: int

    @property
    def place(self) -> Place:
        """Where the module is."""
        return place(self.module)


@dataclass(frozen=True, slots=True)
class DirectionChange:
    """One direction: ``rank`` 0 has the largest singular value ``s`` (None where it is not known),
    ``a`` and ``b`` are the two experts' z - 1."""

    module: str
    rank: int
    a: float
    b: float
    s: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two experts, or an expert and the base model.

    Attributes:
        names: of the two; the second is None for the base model.
        threshold: from which |z - 1| a direction counts as moved.
        modules: every module that one of the two names, by stack, layer and kind.
        directions: those that are moved most, the largest change first.
        profiles: for each expert, the mean |z - 1| of the directions by relative rank, in as many
            equal parts as the tuple is long, those of the largest singular values first.
        norm_a, norm_b: the length of z - 1 over all modules.
        cosine: between the two displacements, over all modules; None where one is zero.
    """

    names: tuple[str, str | None]
    threshold: float
    modules: tuple[ModuleChange, ...]
    directions: tuple[DirectionChange, ...]
    profiles: tuple[tuple[float, ...], tuple[float, ...]]
    norm_a: float
    norm_b: float
    cosine: float | None

    def total(self, count: str) -> int:
        """The sum over the modules of "moved_a", "moved_b", "shared" or "opposed"."""
        return sum(getattr(module, count) for module in self.modules)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        counts = ("moved_a", "moved_b", "shared", "opposed")
        return {**asdict(self), **{count: self.total(count) for count in counts}}


def compare(
    a: Expert,
    b: Expert | None = None,
    *,
    bases: Mapping[str, Spectrum] | None = None,
    threshold: float = 0.01,
    top: int = 20,
    parts: int = 20,
) -> Comparison:
    """Compare an expert with another of the same base model, or with the base model.

    Args:
        a, b: the two; None for the base model.
        bases: the base model's; with them the top directions are ranked by the change of the
            singular value, |s (z - 1)|, instead of the relative change.
        threshold: from which |z - 1| a direction counts as moved: 0.01 is one per cent of its
            singular value.
        top: how many directions are named.
        parts: of the profiles.

    Raises:
        ExpertMismatchError: the two are for different base models.
        ConfigError: the threshold is not a finite number of at least 0, or top or parts is not one
            of at least 1.
    """
    if not (math.isfinite(threshold) and threshold >= 0 and top >= 1 and parts >= 1):
        raise ConfigError(
            f"threshold is {threshold}, top {top}, parts {parts}; a threshold is a finite number "
            "of at least 0, the others are at least 1"
        )
    common_base([a] if b is None else [a, b])
    names = sorted({*a.z, *(() if b is None else b.z)}, key=_order)
    pairs = {module: (_change(a, module, b), _change(b, module, a)) for module in names}
    whole = [torch.cat([pair[k] for pair in pairs.values()]) for k in (0, 1)]
    return Comparison(
        (a.name, None if b is None else b.name),
        threshold,
        tuple(_module(module, *pair, threshold) for module, pair in pairs.items()),
        _top(pairs, bases, top),
        (_profile([pair[0] for pair in pairs.values()], parts),
         _profile([pair[1] for pair in pairs.values()], parts)),
        float(whole[0].norm()),
        float(whole[1].norm()),
        _cosine(*whole),
    )  # fmt: skip


def _order(module: str) -> tuple[str, int, str]:
    stack, layer, kind = place(module)
    return stack, -1 if layer is None else layer, kind


def _change(expert: Expert | None, module: str, other: Expert | None) -> Tensor:
    """z - 1 of a module, float64; zeros where the expert does not name it and the other does."""
    if expert is not None and module in expert.z:
        return expert.z[module].detach().cpu().double() - 1
    assert other is not None
    return torch.zeros(len(other.z[module]), dtype=torch.float64)


def _module(name: str, a: Tensor, b: Tensor, threshold: float) -> ModuleChange:
    moved_a, moved_b = _moved(a, threshold), _moved(b, threshold)
    both = moved_a & moved_b
    return ModuleChange(
        name,
        len(a),
        float(a.square().mean().sqrt()),
        float(b.square().mean().sqrt()),
        _cosine(a, b),
        int(moved_a.sum()),
        int(moved_b.sum()),
        int((both & (a * b > 0)).sum()),
        int((both & (a * b < 0)).sum()),
    )


def _moved(change: Tensor, threshold: float) -> Tensor:
    return (change.abs() >= threshold) & (change != 0)


def _cosine(a: Tensor, b: Tensor) -> float | None:
    lengths = float(a.norm() * b.norm())
    return max(-1.0, min(1.0, float(a @ b) / lengths)) if lengths else None


def _top(
    pairs: Mapping[str, tuple[Tensor, Tensor]], bases: Mapping[str, Spectrum] | None, top: int
) -> tuple[DirectionChange, ...]:
    found: list[tuple[float, DirectionChange]] = []
    for module, (a, b) in pairs.items():
        s = None
        size = torch.maximum(a.abs(), b.abs())
        if bases is not None and module in bases:
            s = bases[module].s.cpu().double()
            size = size * s
        values, ranks = size.topk(min(top, len(size)))
        for value, rank in zip(values.tolist(), ranks.tolist(), strict=True):
            one = None if s is None else float(s[rank])
            if value > 0:
                found.append(
                    (value, DirectionChange(module, rank, float(a[rank]), float(b[rank]), one))
                )
    found.sort(key=lambda pair: -pair[0])
    return tuple(direction for _, direction in found[:top])


def _profile(changes: list[Tensor], parts: int) -> tuple[float, ...]:
    part = torch.cat([torch.arange(len(change)) * parts // len(change) for change in changes])
    totals = torch.bincount(part, torch.cat(changes).abs(), parts)
    return tuple((totals / torch.bincount(part, minlength=parts).clamp_min(1)).tolist())
