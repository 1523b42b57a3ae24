"""The bases of all layers of a model, from the cache or computed into it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from t2agent.errors import ConfigError
from t2agent.progress import progress_bar
from t2agent.svf import cache
from t2agent.svf.basis import Basis, Side, decompose
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
    with progress_bar("Decomposing weights", len(layers), enabled=progress) as bar:
        for name, layer in layers.items():
            m, n = shape(layer)
            side: Side = "out" if m <= n else "in"
            with read(layer, name) as (weight, bias):
                key = cache.key(weight, bias)
                basis = cache.load(key, min(m, n), side, weight.dtype)
                if basis is None:
                    try:
                        basis = decompose(weight, bias)
                    except ConfigError as error:
                        raise ConfigError(
                            f"cannot decompose {name}: {error}; choose `targets` without it"
                        ) from error
                    basis = Basis(basis.q.cpu(), basis.s.cpu(), side, basis.offset)
                    try:
                        cache.store(key, basis)
                    except OSError as error:
                        if not warned:
                            warnings.warn(
                                f"the bases cannot be kept in {cache.folder()} ({error}): they "
                                "are computed anew each time; set T2AGENT_HOME to a folder that "
                                "can be written",
                                stacklevel=2,
                            )
                        warned = True
            bases[name] = basis
            bar.advance()
    return bases
