"""Layers that cannot be exported: shared ones, and those that PEFT does not take."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel


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


def check_adapted(model: PreTrainedModel, config: LoraConfig, names: Collection[str]) -> None:
    """Raise ConfigError unless PEFT puts its layers exactly where the configuration means them.

    PEFT is asked, with a twin of the model that has no weights: it refuses some layers of some
    architectures, and takes every module whose name ends like one that is named.

    Args:
        model: the whole model.
        config: of the adapter.
        names: the layers that it is for.
    """
    import torch
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = type(model)(copy.deepcopy(model.config))
        try:
            inject_adapter_in_model(copy.deepcopy(config), twin)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"PEFT does not adapt all of these layers: {error} Export with format 'merged'."
            ) from error
    found = {name for name, module in twin.named_modules() if isinstance(module, BaseTunerLayer)}
    if found != set(names):
        raise ConfigError(
            f"PEFT would adapt {min(found ^ set(names))} otherwise than t2agent; export with "
            "format 'merged'"
        )
