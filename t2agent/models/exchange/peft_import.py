"""A PEFT LoRA adapter, projected onto the singular directions of the base model's weights.

A LoRA changes W by scale B A, whatever it likes; an expert only stretches W's own directions. Of
the change, the part sum_i delta_i s_i u_i v_i^T with delta_i = u_i^T (scale B A) v_i / s_i is the
nearest that an expert can do (see `t2agent.svf.low_rank.project`). How much of the change that is,
is told: for an adapter that was exported from an expert all of it, for one that was trained freely
mostly little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.errors import ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert
from t2agent.models.exchange.adapter import opened
from t2agent.progress import progress_bar
from t2agent.svf import layer
from t2agent.svf.low_rank import product_norm, project, sharpened

if TYPE_CHECKING:
    from torch import Tensor

    from t2agent.models.exchange.adapter import Pair
    from t2agent.models.model import T2Model


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What became of the change of one module.

    norm: Frobenius norm of scale B A. share: the part of its square that the expert has, 0 to 1.
    adapted: whether the base model adapts the module at all; where not, all of it is lost.
    """

    name: str
    norm: float
    share: float
    adapted: bool


@dataclass(frozen=True, slots=True)
class LoraImport:
    """An expert made of an adapter, and the share of the adapter's change that it has."""

    expert: Expert
    layers: tuple[LayerShare, ...]

    @property
    def share(self) -> float:
        """Of all modules together: sum of the squares that are kept / sum of all squares."""
        total = math.fsum(each.norm**2 for each in self.layers)
        kept = math.fsum(each.share * each.norm**2 for each in self.layers)
        return kept / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the expert."""
        return {
            "share_kept": self.share,
            "layers": {each.name: each.share for each in self.layers},
            "lost": [each.name for each in self.layers if not each.adapted],
        }


def import_lora(
    folder: Path | str,
    model: T2Model,
    name: str,
    *,
    description: str = "",
    progress: bool = True,
) -> LoraImport:
    """The expert that is nearest to a LoRA adapter. The folder need not be trusted.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        model: the base model that the adapter was trained for.
        name: of the expert.
        description: on its card.
        progress: whether to show a bar.

    Raises:
        ExpertFormatError: a file is missing or damaged, or the adapter is more than a LoRA.
        ExpertMismatchError: it is for another base model, or changes no layer that is adapted.
    """
    model.decompose(progress=progress)
    z: dict[str, Tensor] = {}
    shares = []
    with (
        opened(folder) as adapter,
        model.merged(None),  # the base weights, and nobody else's hands on them
        progress_bar("Projecting layers", len(adapter.pairs), enabled=progress) as bar,
    ):
        _check(folder, adapter.pairs, adapter.base, model)
        for pair in adapter.pairs:
            b, a = adapter.read(pair)
            module = model.targets.layers.get(pair.module)
            if module is None:
                shares.append(LayerShare(pair.module, product_norm(b, a), 0.0, adapted=False))
            else:
                with layer.read(module, pair.module) as (weight, _):
                    basis = sharpened(weight, model.bases[pair.module])
                    found = project(weight, basis, b, a)
                share = min(1.0, (found.kept / found.norm) ** 2) if found.norm else 1.0
                shares.append(LayerShare(pair.module, found.norm, share, adapted=True))
                z[pair.module] = (1 + found.delta).float().cpu()
            bar.advance()
    card = ExpertCard(
        name, description=description, base=model.name, base_fingerprint=model.fingerprint
    )
    report = LoraImport(Expert(card, z), tuple(shares))
    origin = {"format": "peft", "base": adapter.base, **report.to_dict()}
    card = ExpertCard.from_dict({**card.to_dict(), "training": {"imported": origin}})
    return LoraImport(Expert(card, z), report.layers)


def _check(folder: Path | str, pairs: tuple[Pair, ...], base: str, model: T2Model) -> None:
    """Raise ExpertMismatchError where the adapter is for another base model."""
    said = f" (it names {base!r:.80})" if base else ""
    hint = f"give the base model that it was trained for{said}"
    for pair in pairs:
        module = model.targets.layers.get(pair.module)
        if module is not None and tuple(layer.shape(module)) != (pair.m, pair.n):
            m, n = layer.shape(module)
            raise ExpertMismatchError(
                f"{folder} changes a weight of {pair.m} x {pair.n} at {pair.module}, but that of "
                f"{model.name} is {m} x {n}: {hint}"
            )
    if not any(pair.module in model.targets.layers for pair in pairs):
        raise ExpertMismatchError(
            f"{folder} changes none of the {len(model.shapes)} layers that {model.name} adapts "
            f"(its first is {pairs[0].module!r:.120}): {hint}, and targets that hold its layers"
        )
