"""The weights that a search looks for, as a matrix: one row for all layers, or one a layer.

The search may start from a climb of the likelihood of whole replies over a mixture's weights.

The correction of a mixture is linear in its weights, so the gradient is that of an expert in
training, z = 1 + sum_k a_k (z_k - 1), projected on the few directions z_k - 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from t2agent.experts.expert import Expert
from t2agent.experts.mixture import Mixture
from t2agent.models.likelihood import log_likelihoods, rows_per_pass
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt

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


_RATE = 0.1  # Adam's: the weights' range is crossed in some fifteen steps
_ROWS = 16

Target = tuple[Prompt, tuple[int, ...]]


def climb(
    model: T2Model,
    space: Space,
    start: Weights,
    targets: Sequence[Target],
    *,
    bounds: tuple[float, float],
    steps: int,
    stop: Callable[[], bool] = lambda: False,
) -> Weights:
    """The weights (rows, experts) of the highest likelihood that Adam came by.

    start: (rows, experts). targets: prompts with the tokens of the replies that are wanted.
    bounds: of each weight. stop: asked before each step.
    """
    directions = _directions(model, space)
    parameters = {name: nn.Parameter(torch.ones_like(d[0])) for name, d in directions.items()}
    expert = Expert(Expert.identity(model, "search").card, parameters)
    at = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([at], lr=_RATE)
    best, best_value = np.array(start, np.float64), -np.inf
    for _ in range(steps):
        if stop():
            break
        with torch.no_grad():
            for name, z in parameters.items():
                z.copy_(1 + at[space.row(name)].to(z.device) @ directions[name])
                z.grad = None
        value = _backward(model, expert, targets)
        if not np.isfinite(value):
            break
        if value > best_value:
            best, best_value = at.detach().double().numpy().copy(), value
        at.grad = torch.zeros_like(at)
        for name, z in parameters.items():
            if z.grad is not None:
                at.grad[space.row(name)] -= (directions[name] @ z.grad).cpu()
        optimizer.step()
        with torch.no_grad():
            at.clamp_(*bounds)
    return best


def _directions(model: T2Model, space: Space) -> dict[str, Tensor]:
    """z_k - 1 of all experts, (experts, r), for each module that an expert changes."""
    experts = {name: model.resolve(name).experts[0] for name in space.names}
    found = {}
    for module, length in model.shapes.items():
        if any(module in expert.z for expert in experts.values()):
            ones = torch.ones(length)
            rows = [experts[name].z.get(module, ones).detach().cpu() - 1 for name in space.names]
            found[module] = torch.stack(rows).to(model.device)
    return found


def _backward(model: T2Model, expert: Expert, targets: Sequence[Target]) -> float:
    """The mean log-likelihood; its gradient is added to that of the expert's vectors."""
    longest = max(len(tokens) for _, tokens in targets)
    rows = min(_ROWS, rows_per_pass(model, 0, longest))
    total = 0.0
    for start in range(0, len(targets), rows):
        part = targets[start : start + rows]
        completions = [(row, tokens) for row, (_, tokens) in enumerate(part)]
        with torch.enable_grad(), model.adapted(expert):
            value = log_likelihoods(model, [prompt for prompt, _ in part], completions).sum()
            (value / len(targets)).backward()
        total += value.item()
    return total / len(targets)
