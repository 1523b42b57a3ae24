"""Memory: what there is, what is held, and what autograd keeps. `train.passes` estimates by it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable

import psutil
import torch
from torch import Tensor


def free_bytes(device: torch.device) -> int:
    """What could still be allocated there."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)


def held_bytes(device: torch.device) -> int:
    """What this process holds there now; on the CPU all of it, the interpreter's too.

    What C's allocator keeps for later, which may be a third, is given back first where it can be
    (glibc): a pass would use it again, so that it would count twice.
    """
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: torch.device) -> int:
    """The most that this process has held so far: of the GPU's where that is the device, else
    resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if os.name == "nt":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def kept_bytes(run: Callable[[], object]) -> int:
    """The bytes of all tensors that autograd keeps for the backward pass of what runs."""
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        alone = value.detach()  # a graph that keeps its own results would never be let go of
        return kept.setdefault(value.untyped_storage().data_ptr(), alone)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        result = run()
    total = sum(value.untyped_storage().nbytes() for value in kept.values())
    del result
    return total
