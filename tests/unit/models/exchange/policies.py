"""What the authors' programs save.

The classes do what `policy/base.py` and `policy/weighted_combination.py` of
github.com/SakanaAI/self-adaptive-llms do, in float32 instead of bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Policy(nn.Module):
    """Their parameters: one vector for each weight with "mlp" in its name."""

    def __init__(self, base: dict[str, Tensor], max_mult: float = 1.0) -> None:
        super().__init__()
        self.max_mult = max_mult
        self.params = {
            key: nn.Parameter(torch.randn(min(value.shape)))
            for key, value in base.items()
            if "mlp" in key
        }
        self.learnable_params_module_list = nn.ParameterList(list(self.params.values()))

    def masks(self) -> dict[str, Tensor]:
        return {key: torch.sigmoid(p) * self.max_mult for key, p in self.params.items()}


class Combination(nn.Module):
    """Their few-shot mixture of some policies, one coefficient for each or for each layer too."""

    def __init__(self, policies: list[Policy], per_layer: bool, norm: bool) -> None:
        super().__init__()
        keys = list(policies[0].params)
        c = torch.rand(len(policies), len(keys) if per_layer else 1)
        self.adaptive_weights = nn.Parameter(c)
        self.norm, self.keys = norm, keys
        for key in keys:
            for i, policy in enumerate(policies):
                self.register_buffer(
                    f"weights_{i}_k_{key.replace('.', '_')}", policy.masks()[key].detach()
                )

    def masks(self) -> dict[str, Tensor]:
        c = self.adaptive_weights.detach()
        c = (c / c.sum(0) if self.norm else c).expand(-1, len(self.keys))
        return {
            key: sum(
                c[k, i] * getattr(self, f"weights_{k}_k_{key.replace('.', '_')}")
                for k in range(len(c))
            )
            for i, key in enumerate(self.keys)
        }
