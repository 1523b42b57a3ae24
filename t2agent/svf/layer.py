"""Reading a linear layer: its kind, its shape, its weight wherever that lies.

A layer is a black box while it runs. Only the decomposition, the fingerprint and merging look
inside, through this module: nn.Linear and its subclasses (quantised ones too) hold W (out x in)
as `weight`, GPT-2's Conv1D holds its transpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from accelerate.utils import align_module_device
from accelerate.utils.modeling import has_offloaded_params
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError

_PROBE = 512  # unit vectors sent through a quantised layer at a time


class Shape(NamedTuple):
    """Out and in features of a linear layer."""

    m: int
    n: int


def is_linear(module: nn.Module) -> bool:
    """Whether the transform can be put around this module.

    nn.MultiheadAttention reads its output projection's weight without ever calling the layer. A
    subclass of nn.Linear may compute something else: the routers of Llama 4 and Phi-3.5-MoE return
    the chosen experts, too.
    """
    if not isinstance(module, (nn.Linear, Conv1D)):
        return False
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return False
    own = type(module).forward not in (nn.Linear.forward, Conv1D.forward)
    return not own or not is_plain(module) or _keeps_shape(module)


def _keeps_shape(layer: nn.Module) -> bool:
    """Whether the layer turns a vector of n numbers into one of m; tried with zeros."""
    m, n = shape(layer)
    weight: Any = layer.weight
    zeros = torch.zeros(1, n, dtype=weight.dtype, device=weight.device)
    try:
        with torch.no_grad():
            # The class's: accelerate's hook would fetch an offloaded weight, and the shape of what
            # comes out is known on the meta device as well.
            out = type(layer).forward(layer, zeros)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return isinstance(out, Tensor) and out.shape == (1, m)


def shape(layer: nn.Module) -> Shape:
    """(out, in) of a linear layer, without reading its weight."""
    if isinstance(layer, Conv1D):
        return Shape(int(layer.nf), int(layer.nx))
    if isinstance(layer, nn.Linear):
        return Shape(layer.out_features, layer.in_features)
    raise ConfigError(f"{type(layer).__name__} is not a linear layer (nn.Linear or Conv1D)")


def is_plain(layer: nn.Module) -> bool:
    """Whether the weight is an ordinary floating tensor, as opposed to a quantised one."""
    weight: Any = layer.weight
    return (
        type(weight) in (Tensor, nn.Parameter)
        and weight.is_floating_point()
        and weight.element_size() > 1  # float8 comes with scales that the layer applies
        and weight.numel() == shape(layer).m * shape(layer).n
    )


def is_offloaded(layer: nn.Module) -> bool:
    """Whether accelerate keeps the weight elsewhere (CPU memory or disk) between calls."""
    return bool(has_offloaded_params(layer))


def execution_device(model: nn.Module) -> torch.device | None:
    """Where accelerate runs the first part of the model; None where it has not placed it."""
    waiting = [model]
    while waiting:  # `modules()` takes ten times as long, and this is asked for each request
        module = waiting.pop()
        hook = module.__dict__.get("_hf_hook")
        for each in getattr(hook, "hooks", (hook,)):  # a SequentialHook holds several
            device = getattr(each, "execution_device", None)
            if device is not None:
                return torch.device(device)
        waiting += [child for child in reversed(module._modules.values()) if child is not None]
    return None


@contextmanager
def materialised(module: nn.Module) -> Iterator[None]:
    """The module's own parameters are real tensors inside, whoever offloaded them."""
    if is_offloaded(module):
        with align_module_device(module, torch.device("cpu")):
            yield
    else:
        yield


@contextmanager
def read(layer: nn.Module, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """W (out, in) and the bias of a layer, materialised and dequantised.

    A quantised weight is read by sending unit vectors through the layer, which every
    quantisation library answers alike. Raises ConfigError where there is no weight to read.
    """
    with materialised(layer), torch.no_grad():
        weight: Any = layer.weight
        bias = getattr(layer, "bias", None)
        if weight.device.type == "meta":
            raise ConfigError(
                f"the weight of {name} lies on the meta device and accelerate has no copy of it: "
                "load the model with its weights before adapting it"
            )
        if is_plain(layer):
            data = weight.detach()
            yield (data.mT if isinstance(layer, Conv1D) else data), bias
        else:
            yield _probe(layer), bias


def _probe(layer: nn.Module) -> Tensor:
    """W (out, in) of a layer as it computes it: layer(I) - layer(0), in chunks."""
    m, n = shape(layer)
    stored: Any = layer.weight
    dtype = getattr(layer, "compute_dtype", None) or _floating(layer)
    device = stored.device
    zero = layer.forward(torch.zeros(1, n, dtype=dtype, device=device)).float()
    weight = torch.empty(m, n, dtype=dtype, device=device)
    for start in range(0, n, _PROBE):
        stop = min(start + _PROBE, n)
        unit = torch.zeros(stop - start, n, dtype=dtype, device=device)
        unit[torch.arange(stop - start), torch.arange(start, stop)] = 1
        weight[:, start:stop] = (layer.forward(unit).float() - zero).to(dtype).mT
    return weight


def _floating(layer: nn.Module) -> torch.dtype:
    """The dtype that a quantised layer computes in, as far as its other tensors tell."""
    for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
        if tensor.is_floating_point() and tensor.element_size() > 1:
            return tensor.dtype
    return torch.float32
