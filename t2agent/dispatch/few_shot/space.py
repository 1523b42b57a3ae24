"""The weights that a search looks for, as a matrix: one row for all layers, or one a layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2agent.experts.mixture import Mixture

Weights = NDArray[np.float64]  # (rows, experts)

_LAYER = re.compile(r"(.+?\.\d+)\.")
_DIGITS = 3  # beyond them no answer differs, and a mixture should be readable


@dataclass(frozen=True, slots=True)
class Space:
    """``names``: the experts, one a column. ``prefixes``: one row each; "" stands for all modules
    that no other prefix covers."""

    names: tuple[str, ...]
    prefixes: tuple[str, ...] = ("",)

    @classmethod
    def by_layer(cls, names: tuple[str, ...], modules: Sequence[str]) -> Space:
        """One row for each decoder layer; the modules outside of all share the row ""."""
        return cls(names, tuple(dict.fromkeys(_prefix(module) for module in modules)))

    def row(self, module: str) -> int:
        """The row of a module's weights."""
        return 0 if self.prefixes == ("",) else self.prefixes.index(_prefix(module))

    def mixture(self, weights: Weights) -> Mixture:
        """The weights, rounded, as a mixture; without the experts of weight 0 where that can be."""
        rounded = np.round(weights, _DIGITS)
        rows = {
            prefix: {name: float(a) for name, a in zip(self.names, row, strict=True)}
            for prefix, row in zip(self.prefixes, rounded, strict=True)
        }
        rest = {name: a for name, a in rows.pop("", {}).items() if a}
        used = {name for row in (rest, *rows.values()) for name, a in row.items() if a}
        layers = {p: {n: a for n, a in row.items() if n in used} for p, row in rows.items()}
        return Mixture(rest, {prefix: row for prefix, row in layers.items() if row})

    def weights(self, mixture: Mixture) -> Weights:
        """The matrix of a mixture, whose experts that are not among ``names`` are left out."""
        modules = [f"{prefix}." if prefix else "" for prefix in self.prefixes]
        found = [mixture.coefficients(module) for module in modules]
        return np.array([[row.get(name, 0.0) for name in self.names] for row in found])


def _prefix(module: str) -> str:
    found = _LAYER.match(module)
    return found[1] if found else ""
