"""What the trainer needs to know of the thing it trains: the seam between loop and method.

`SvfAdapter`, the z of an expert, is the product's; `t2agent.train.peft.PeftAdapter` are the
baselines that it is compared with. Samples, seeds, validation, checkpoints, early stop and batches
are the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from t2agent.experts.expert import Expert
from t2agent.models.likelihood import Batch, completion_logits
from t2agent.models.model import T2Model
from t2agent.svf.merge import merged_weight
from t2agent.train.options import TrainOptions
from t2agent.train.setup import chosen_layers


class Adapter(Protocol):
    """Trained parameters on a frozen base model, and how the model runs with them."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Name -> what is trained, float32. Always the same tensors in the same order."""

    @property
    def free(self) -> int:
        """How many numbers training can change: all of the parameters', or fewer."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells it from others in a checkpoint, beyond the options; plain JSON."""

    def prepare(self, progress: bool) -> None:
        """Do what takes long, once, before the first step."""

    def sampled(self) -> AbstractContextManager[object]:
        """Inside, `model.model.generate` is adapted. No gradients are needed."""

    def logits(self, batch: Batch) -> Tensor:
        """`completions.completion_logits` of the adapted model, with gradients."""

    def base(self) -> AbstractContextManager[object]:
        """Inside, `model.model` is the base model, bit for bit."""

    def mask_gradients(self) -> None:
        """Set the gradients of values that must stay as they are to zero."""

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step of the optimizer, which holds the parameters."""


def snapshot(adapter: Adapter) -> dict[str, Tensor]:
    """A copy of the parameters as they are now."""
    return {name: value.detach().clone() for name, value in adapter.parameters.items()}


def restore(adapter: Adapter, values: Mapping[str, Tensor]) -> None:
    """Give the parameters these values, as of a `snapshot`, in place; others stay as they are."""
    with torch.no_grad():
        for name in adapter.parameters.keys() & values.keys():
            adapter.parameters[name].copy_(values[name])


_MERGE_BYTES = 2**30
"""Adapted weights are formed for training if they take no more than this; else never."""


@dataclass(frozen=True, slots=True)
class SvfAdapter:
    """An expert whose ``z`` holds the parameters.

    directions: of each z only the first that many values are free, those of the largest singular
    values; the others keep what they are. None: all are free.
    evenness: of `stretch`, by which the steps of z are multiplied.
    """

    model: T2Model
    expert: Expert
    directions: int | None = None
    evenness: float = 0.0

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
        return cls(model, Expert(ones.card, z), options.directions, options.evenness)

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
        # The base model merged with nothing: forward passes of other threads wait meanwhile.
        with self.model.merged(None):
            return completion_logits(
                self.model,
                batch,
                lambda **inputs: torch.func.functional_call(
                    self.model.model, weights, kwargs=inputs, tie_weights=False
                ),
            )

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

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """As `Adapter.update`. Adam's steps do not depend on the gradient's size, so a longer step
        is what training z / `stretch` would be."""
        before = snapshot(self) if self.evenness else {}
        optimizer.step()
        for name, old in before.items():
            z = self.expert.z[name]
            factor = stretch(self.model.bases[name].s, self.evenness).to(z.device)
            z.copy_(torch.lerp(old, z, factor))


_MOST_STRETCH = 10.0


def stretch(s: Tensor, evenness: float) -> Tensor:
    """By how much more the z of each direction moves, (r,) float32: (mean s / s)^evenness.

    A step of z_i moves the weight by s_i u_i v_i^T: most along its largest directions, which carry
    what the base model knows best. Reinforcement learning moves weights off these (arXiv
    2511.08567). No factor is above 10, since the smallest singular values are rounding.

    s: (r,) singular values.
    """
    least = torch.finfo(torch.float32).tiny
    values = s.float().clamp_min(least)
    return (values.mean() / values).pow(evenness).clamp_max(_MOST_STRETCH)


def merges(model: T2Model) -> bool:
    """Whether adapted weights are formed: many tokens share them, so it saves time.

    On layers as wide as long, the transform around a layer costs twice the layer itself.
    """
    layers: Any = model.targets.layers.values()
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    return model.writable and size <= _MERGE_BYTES
