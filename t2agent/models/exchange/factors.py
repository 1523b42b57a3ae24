"""An expert, or a mixture, as the product of two thin matrices a layer, whatever the file is to be.

W' = W + B A with B (m x k) and A (k x n) from `t2agent.svf.low_rank`. All layers have the same r,
with zeros where fewer directions move: PEFT would take a rank for each layer, vLLM reads only one.

Source: LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from t2agent.errors import ConfigError
from t2agent.models.exchange.records import LayerError
from t2agent.progress import progress_bar
from t2agent.svf import layer
from t2agent.svf.low_rank import low_rank, moved, rounding, sharpened

if TYPE_CHECKING:
    from t2agent.experts.expert import MixtureLike
    from t2agent.models.exchange.adaptable import Adaptable

DEFAULT_RANK = 64

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Factors:
    """B (m, rank) and A (rank, n) of each layer that changes, in the model's order.

    needed: the smallest rank that is exact. layers, error: as of a `LoraExport`.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    needed: int
    layers: tuple[LayerError, ...]
    error: float
    dtype: torch.dtype


def factors(
    model: Adaptable,
    what: MixtureLike,
    rank: int | None,
    dtype: torch.dtype | str,
    progress: bool,
) -> Factors:
    """The change of a mixture at a rank; arguments as of `peft_export.export_lora`.

    The caller holds the base weights (`merged`).

    Raises:
        ConfigError: the rank is no whole number between 1 and the longest z, there is no such
            dtype, or a layer that changes is shared.
    """
    kind = checked_dtype(dtype)
    model.decompose(progress=progress)
    deltas = _deltas(model, what)
    check_alone(model.model, {each: model.targets.layers[each] for each in deltas})
    needed, rank = _ranks(model, deltas, rank)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    layers: list[LayerError] = []
    squares, total = 0.0, 0.0
    with progress_bar("Exporting layers", len(deltas), enabled=progress) as bar:
        for name, delta in deltas.items():
            with layer.read(model.targets.layers[name], name) as (weight, _):
                basis = sharpened(weight, model.bases[name])
                change = low_rank(weight, basis, delta, rank)
            left = math.hypot(change.left, rounding(change.b, change.a, kind))
            error = left / change.norm if change.norm else 0.0
            layers.append(LayerError(name, change.moved, change.b.shape[1], error))
            squares, total = squares + left**2, total + change.norm**2
            m, n = change.b.shape[0], change.a.shape[1]
            b, a = torch.zeros(m, rank, dtype=kind), torch.zeros(rank, n, dtype=kind)
            b[:, : change.b.shape[1]] = change.b.to(kind)
            a[: change.a.shape[0]] = change.a.to(kind)
            if not bool(torch.isfinite(b).all() and torch.isfinite(a).all()):
                raise ConfigError(f"the change of {name} is too large for {kind}; give 'float32'")
            pairs[name] = b, a
            bar.advance()
    return Factors(
        pairs, rank, needed, tuple(layers), math.sqrt(squares / total) if total else 0.0, kind
    )


def checked_dtype(given: torch.dtype | str) -> torch.dtype:
    """The dtype of a file; raises ConfigError for what is none."""
    for each in _DTYPES:
        kind: torch.dtype = getattr(torch, each)
        if given in (each, kind):
            return kind
    raise ConfigError(f"dtype is {given!r}; give {', '.join(map(repr, _DTYPES))}")


def _deltas(model: Adaptable, what: MixtureLike) -> dict[str, Tensor]:
    """The layers that change, in the model's order; all of them where none does."""
    changed = {each: delta for each, delta in model.deltas(what).items() if bool(delta.any())}
    if changed:
        return changed
    return {each: torch.zeros(size) for each, size in model.shapes.items()}


def _ranks(model: Adaptable, deltas: Mapping[str, Tensor], rank: int | None) -> tuple[int, int]:
    """The smallest exact rank, and the one to take."""
    needed = max(moved(model.bases[name], delta) for name, delta in deltas.items())
    if rank is None:
        return needed, max(1, min(needed, DEFAULT_RANK))
    largest = max(model.shapes.values())
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= largest:
        raise ConfigError(
            f"rank is {rank!r}; give a whole number from 1 to {largest}, the most directions that "
            f"a layer of {model.name} has ({needed} are enough to be exact here)"
        )
    return needed, rank


def check_alone(
    model: nn.Module, layers: Mapping[str, nn.Module], *, weights: bool = False
) -> None:
    """Raise ConfigError where a layer has a second name, or its weight another owner.

    PEFT replaces a module under one of its names only, and a checkpoint holds a shared weight once.

    Args:
        model: the whole model.
        layers: name -> module.
        weights: whether shared weights matter, and not only shared modules.
    """
    names = {id(module): name for name, module in layers.items()}
    for other, module in model.named_modules(remove_duplicate=False):
        if (own := names.get(id(module))) is not None and other != own:
            raise ConfigError(
                f"{own} is {other} as well, one module in two places, which an export cannot "
                "express; use the expert with t2agent"
            )
    if not weights:
        return
    owned = {id(module._parameters["weight"]): name for name, module in layers.items()}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        own = owned.get(id(parameter))
        if own is not None and other != f"{own}.weight":
            raise ConfigError(
                f"the weight of {own} is that of {other} as well, which a checkpoint holds once: "
                "the other would change, too; export with format 'lora'"
            )
