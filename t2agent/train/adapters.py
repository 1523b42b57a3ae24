"""What the trainer needs to know of the thing it trains: the seam between loop and method.

`policy.SvfAdapter`, the z of an expert, is the product's; `peft_adapter.PeftAdapter` are the
baselines that it is compared with. Samples, seeds, validation, checkpoints, early stop and batches
are the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from t2agent.models.likelihood import Batch


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


def snapshot(adapter: Adapter) -> dict[str, Tensor]:
    """A copy of the parameters as they are now."""
    return {name: value.detach().clone() for name, value in adapter.parameters.items()}


def restore(adapter: Adapter, values: Mapping[str, Tensor]) -> None:
    """Give the parameters the values of a `snapshot`, in place."""
    with torch.no_grad():
        for name, parameter in adapter.parameters.items():
            parameter.copy_(values[name])
