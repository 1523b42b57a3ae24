"""SVF in training: the z of an expert as an `Adapter`, with the adapted weights formed or not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from t2agent.experts.expert import Expert
from t2agent.models.likelihood import Batch, completion_logits
from t2agent.models.model import T2Model
from t2agent.svf.merge import merged_weight
from t2agent.train.learner import to_prompt
from t2agent.train.options import TrainOptions
from t2agent.train.selection import chosen_layers

__all__ = ["SvfAdapter", "merges", "to_prompt"]

_MERGE_BYTES = 2**30
"""Adapted weights are formed for training if they take no more than this; else never."""


@dataclass(frozen=True, slots=True)
class SvfAdapter:
    """An expert whose ``z`` holds the parameters.

    directions: of each z only the first that many values are free, those of the largest singular
    values; the others keep what they are. None: all are free.
    """

    model: T2Model
    expert: Expert
    directions: int | None = None

    @classmethod
    def start(cls, model: T2Model, options: TrainOptions) -> SvfAdapter:
        """z = 1 for the modules of the options, where training starts.

        Raises:
            ConfigError: the options' modules are none of the model's.
        """
        ones = Expert.identity(model, "in-training")
        z = {
            name: nn.Parameter(ones.z[name].to(model.device))
            for name in chosen_layers(model, options.modules)
        }
        return cls(model, Expert(ones.card, z), options.directions)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Module name -> z."""
        return cast(Mapping[str, nn.Parameter], self.expert.z)

    @property
    def free(self) -> int:
        """How many values of all z are free."""
        return sum(len(z[: self.directions]) for z in self.expert.z.values())

    @property
    def identity(self) -> Mapping[str, Any]:
        """The options say all."""
        return {}

    def prepare(self, progress: bool) -> None:
        """Decompose the base model."""
        self.model.decompose(progress=progress)

    def sampled(self) -> AbstractContextManager[T2Model]:
        """The expert, written into the weights where that is done."""
        if merges(self.model):
            return self.model.merged(self.expert, keep=False)
        return self.model.adapted(self.expert)

    def logits(self, batch: Batch) -> Tensor:
        """As `Adapter.logits`."""
        if not merges(self.model):
            with self.model.adapted(self.expert):
                return completion_logits(self.model, batch)
        with torch.autocast(self.model.device.type, enabled=False):
            weights = {
                f"{name}.weight": merged_weight(
                    self.model.targets.layers[name], self.model.bases[name], z - 1
                )
                for name, z in self.expert.z.items()
            }
        forward = partial(_call_with, self.model.model, weights)
        # The base model merged with nothing: forward passes of other threads wait meanwhile.
        with self.model.merged(None):
            return completion_logits(self.model, batch, forward)

    def base(self) -> AbstractContextManager[T2Model]:
        """No expert."""
        return self.model.adapted(None)

    def mask_gradients(self) -> None:
        """Adam leaves a value whose gradient has always been zero exactly as it is."""
        if self.directions is None:
            return
        for z in self.expert.z.values():
            if z.grad is not None:
                z.grad[self.directions :] = 0.0


def merges(model: T2Model) -> bool:
    """Whether adapted weights are formed: many tokens share them, so it saves time.

    On layers as wide as long, the transform around a layer costs twice the layer itself.
    """
    layers: Any = model.targets.layers.values()
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    return model.writable and size <= _MERGE_BYTES


def _call_with(hf: nn.Module, weights: dict[str, Tensor], **inputs: Any) -> Any:
    return torch.func.functional_call(hf, weights, kwargs=inputs, tie_weights=False)
