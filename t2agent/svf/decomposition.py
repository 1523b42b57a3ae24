"""The bases of all layers of a model, from the cache or computed into it.

Bases on disk: one safetensors file a layer, named by the content of its weight.

A file is written whole, so an interrupted decomposition goes on where it stopped, and equal
weights (of two models, or of one model under two names) share a file. What does not hold a basis
of the right shape with the checksum that was written beside it is taken for damage, computed again
and replaced.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from t2agent.errors import ConfigError
from t2agent.files import write_bytes
from t2agent.paths import home
from t2agent.progress import Bar, progress_bar
from t2agent.svf.basis import Basis, Side, decompose
from t2agent.svf.fingerprint import digest
from t2agent.svf.layer import read, shape


# What is kept may be needed where gradients are recorded, whichever mode asked first.
@torch.inference_mode(False)
def decompose_layers(layers: Mapping[str, nn.Module], *, progress: bool) -> dict[str, Basis]:
    """Module name -> basis. Layers with equal weights share one.

    An interrupted run has kept what it finished. Where the cache's folder cannot be written, the
    bases stay in memory, and a warning says so. Raises ConfigError, with the layer's name, for a
    weight that is no finite matrix.
    """
    bases: dict[str, Basis] = {}
    warned = False
    bar: Bar | None = None
    with ExitStack() as stack:
        for name, layer in layers.items():
            m, n = shape(layer)
            side: Side = "out" if m <= n else "in"
            with read(layer, name) as (weight, bias):
                key = basis_key(weight, bias)
                basis = load_basis(key, min(m, n), side, weight.dtype)
                if basis is None:
                    if bar is None:  # what is read from the cache is no decomposing
                        drawn = progress and sys.stderr.isatty()
                        title = "Decomposing weights"
                        bar = stack.enter_context(progress_bar(title, len(layers), drawn))
                        bar.advance(len(bases))
                    try:
                        basis = decompose(weight, bias)
                    except ConfigError as error:
                        raise ConfigError(
                            f"cannot decompose {name}: {error}; choose `targets` without it"
                        ) from error
                    basis = Basis(basis.q.cpu(), basis.s.cpu(), side, basis.offset)
                    try:
                        store_basis(key, basis)
                    except OSError as error:
                        if not warned:
                            warnings.warn(
                                f"the bases cannot be kept in {folder()} ({error}): they "
                                "are computed anew each time; set T2AGENT_HOME to a folder that "
                                "can be written",
                                stacklevel=2,
                            )
                        warned = True
            bases[name] = basis
            if bar is not None:
                bar.advance()
    return bases


_VERSION = "2"


def folder() -> Path:
    """Where the bases lie: `$T2AGENT_HOME/cache/bases`."""
    return home() / "cache" / "bases"


def basis_key(weight: Tensor, bias: Tensor | None) -> str:
    """The name of the file for W (out, in) and its bias: a hash of their content."""
    return digest(weight, bias if weight.shape[0] <= weight.shape[1] else None)


def path(name: str) -> Path:
    """The file of a key."""
    return folder() / name[:2] / f"{name}.safetensors"


def load_basis(name: str, size: int, side: Side, dtype: torch.dtype) -> Basis | None:
    """The basis of a key, memory-mapped; None where there is none, or not this one.

    size, side and dtype are what the weight asks for; a file that says otherwise is not used.
    """
    file = path(name)
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            about = stored.metadata() or {}
            checksum = about.pop("checksum", "")
            if about != _about(name, side):
                return None
            names = set(stored.keys())
            q, s = stored.get_tensor("q"), stored.get_tensor("s")
            offset = stored.get_tensor("offset") if "offset" in names else None
    except (SafetensorError, OSError, RuntimeError, KeyError):
        return None
    if q.shape != (size, size) or q.dtype != dtype or s.shape != (size,):
        return None
    if offset is not None and offset.shape != (size,):
        return None
    # All of it is read, but weights four times as large have just been hashed for the key.
    return Basis(q, s, side, offset) if digest(q, s, offset) == checksum else None


def store_basis(name: str, basis: Basis) -> None:
    """Write the basis of a key, whole or not at all."""
    tensors = {"q": basis.q.cpu(), "s": basis.s.cpu()}
    if basis.offset is not None:
        tensors["offset"] = basis.offset.cpu()
    checksum = digest(tensors["q"], tensors["s"], tensors.get("offset"))
    about = {**_about(name, basis.side), "checksum": checksum}
    write_bytes(path(name), save(tensors, metadata=about))


def _about(name: str, side: Side) -> dict[str, str]:
    return {"format": "t2agent-basis", "version": _VERSION, "content": name, "side": side}
