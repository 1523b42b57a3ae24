"""Hashes of weights by content: the fingerprint of a base model, the key of a cached basis."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from t2agent.errors import ConfigError
from t2agent.svf.layer import materialised

_WORKERS = 4  # hashlib releases the GIL


def digest(*tensors: Tensor | None) -> str:
    """SHA-256 over dtype, shape and bytes of some tensors, in hexadecimal."""
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            total.update(b"none;")
            continue
        data = tensor.detach().cpu().contiguous()
        total.update(f"{data.dtype}{tuple(data.shape)};".encode())
        total.update(data.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def fingerprint(model: PreTrainedModel) -> str:
    """Content hash of a model's weights, 64 hexadecimal digits.

    Every parameter counts once, by name, shape and values. Values wider than bfloat16 are
    rounded to bfloat16 first, so that a checkpoint has one fingerprint whether it is loaded in
    float32 or bfloat16; the device and offloading make no difference. Quantised weights are
    hashed as they are stored: their singular directions differ from those of the original, and
    so does the fingerprint. Raises ConfigError for weights on the meta device.
    """
    head = model.get_output_embeddings()
    tied = head is not None and bool(
        getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    )
    seen: set[int] = set()
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for prefix, module in model.named_modules():
            own = {
                f"{prefix}.{name}".lstrip("."): name
                for name, parameter in module._parameters.items()
                if parameter is not None
                and id(parameter) not in seen
                and not (tied and module is head and name == "weight")
            }
            seen.update(id(module._parameters[name]) for name in own.values())
            if not own:
                continue
            with materialised(module):
                tensors = [module._parameters[name] for name in own.values()]
                digests.update(zip(own, pool.map(_canonical_digest, own, tensors), strict=True))
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(f"{name}={digests[name]};".encode())
    return total.hexdigest()


def _canonical_digest(name: str, parameter: nn.Parameter) -> str:
    if parameter.device.type == "meta":
        raise ConfigError(
            f"{name} lies on the meta device and accelerate has no copy of it: "
            "load the model with its weights before asking for its fingerprint"
        )
    data = parameter.detach()
    if data.is_floating_point() and data.element_size() > 1:
        data = data.to(torch.bfloat16)
    return digest(data)
