"""In which precision a base model computes where nobody says."""

from __future__ import annotations

import functools

import psutil
import torch
from transformers import PreTrainedModel

_SHARE = 0.25  # of the machine's memory, that weights in float32 may take
_HALF = (torch.bfloat16, torch.float16)


@functools.cache
def has_bfloat16_units(device: str) -> bool:
    """Whether matrix products in bfloat16 are faster there than in float32, not emulated."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", None)  # not in every version of torch
    if device != "cpu" or ask is None:
        return False
    found = ask()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def widen(model: PreTrainedModel) -> None:
    """Put weights of 16 bits into float32, exactly as they are, on a processor that has to emulate
    bfloat16: there a prompt takes five times as long (AVX-512 without its bfloat16 instructions).

    Models whose float32 weights would take more than a quarter of the machine's memory stay as
    they are, and so do those on another device.

    model: not quantised.
    """
    weights = list(model.parameters())
    if model.dtype not in _HALF or any(weight.device.type != "cpu" for weight in weights):
        return
    if has_bfloat16_units("cpu"):
        return
    if 4 * sum(weight.numel() for weight in weights) <= _SHARE * psutil.virtual_memory().total:
        model.float()
