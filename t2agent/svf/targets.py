"""Which layers of a model are adapted.

The language part is found by structure: it is the smallest module around the input embeddings
that holds linear layers, without the encoders of other modalities and the output head.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Collection, Hashable
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from t2agent.errors import ConfigError
from t2agent.svf.layer import is_linear

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_EXPERT = re.compile(r"(^|\.)(local_)?experts?(\.|$)")
_SEEN = ("pixel_values", "pixel_values_videos", "input_features", "input_values")
_SHOWN = 4


class Targets(NamedTuple):
    """layers: name -> module; vision: names outside the language part; routed: behind a router."""

    layers: dict[str, nn.Module]
    vision: frozenset[str]
    routed: frozenset[str]


def choose(model: PreTrainedModel, targets: str) -> Targets:
    """The linear layers of `model` that `targets` names.

    targets: "all", "attention", "mlp", "all+vision" or a regular expression that is searched for
    in module names. A layer in the chosen part that holds a matrix, but is no linear layer, is
    left alone and named once in a warning. Raises ConfigError where nothing is left, or for an
    expression that is not one.
    """
    head = model.get_output_embeddings()
    embeddings = model.get_input_embeddings()
    language = _language(model, embeddings)
    linear = _linear(model, head)
    inside = {n: m for n, m in linear.items() if n in language}
    if targets == "all+vision":
        chosen = linear
    elif targets == "all":
        chosen = inside
    elif targets in ("attention", "mlp"):
        chosen = {n: m for n, m in inside.items() if _is_attention(model, n) == (targets != "mlp")}
    else:
        try:
            pattern = re.compile(targets)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"targets={targets!r} is neither 'all', 'attention', 'mlp', 'all+vision' nor a "
                f"regular expression on module names ({error})"
            ) from error
        chosen = {n: m for n, m in linear.items() if pattern.search(n)}
    if targets in ("all", "mlp", "all+vision"):
        known = {id(m) for m in (embeddings, head, *linear.values())}
        _warn(model, None if targets == "all+vision" else language, known)
    if not chosen:
        names = ", ".join(list(linear)[:_SHOWN]) or "none"
        raise ConfigError(
            f"targets={targets!r} matches no linear layer of {type(model).__name__}, so there is "
            f"nothing to adapt; its linear layers are: {names}{', ...' if len(linear) > 4 else ''}"
        )
    return Targets(
        chosen,
        frozenset(n for n in chosen if n not in language),
        frozenset(n for n in chosen if _EXPERT.search(n)),
    )


def _linear(model: PreTrainedModel, head: nn.Module | None) -> dict[str, nn.Module]:
    """Every linear layer that is called, by name, without the output head."""
    modules = dict(model.named_modules())
    layers = {}
    for name, module in modules.items():
        if is_linear(module) and module is not head:
            parent, _, own = name.rpartition(".")
            if own not in _read_uncalled(modules[parent].__class__):
                layers[name] = module
    return layers


@functools.lru_cache(maxsize=256)
def _read_uncalled(kind: Hashable) -> frozenset[str]:
    """Names of the layers whose weights modules of this class multiply with by themselves.

    Mamba's mixer does so with dt_proj: a transform around the layer would never run. Only the
    source of the class tells.
    """
    try:
        source = inspect.getsource(kind)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return frozenset()
    read = set(re.findall(r"self\.(\w+)\.weight\b", source))
    multiplied = set(re.findall(r"self\.(\w+)\.weight @", source))
    called = set(re.findall(r"self\.(\w+)\(", source))
    return frozenset(multiplied | (read - called))


def _language(model: PreTrainedModel, embeddings: nn.Module) -> frozenset[str]:
    """Names of the modules of the language part."""
    modules = dict(model.named_modules())
    prefix = next(name for name, module in modules.items() if module is embeddings)
    others: set[str] = set()
    encoders = [model.get_encoder(modality=each) for each in ("image", "video", "audio")]
    encoders += [m for m in modules.values() if getattr(m, "main_input_name", None) in _SEEN]
    for encoder in encoders:
        names = [n for n, m in modules.items() if m is encoder and n]
        others.update(n for n in names if not f"{prefix}.".startswith(f"{n}."))
    while prefix:
        prefix = prefix.rpartition(".")[0]
        inside = frozenset(
            n
            for n in modules
            if (n == prefix or n.startswith(f"{prefix}.") or not prefix)
            and not any(n == other or n.startswith(f"{other}.") for other in others)
        )
        if any(is_linear(modules[n]) for n in inside):
            return inside
    return frozenset(modules)


def _is_attention(model: PreTrainedModel, name: str) -> bool:
    """Whether the layer, or a module that it lies in, calls itself attention."""
    while name:
        if _ATTENTION.search(name.rpartition(".")[2]):
            return True
        if _ATTENTION.search(type(model.get_submodule(name)).__name__):
            return True
        name = name.rpartition(".")[0]
        if name and isinstance(model.get_submodule(name), nn.ModuleList):
            return False
    return False


def _warn(model: PreTrainedModel, inside: frozenset[str] | None, known: Collection[int]) -> None:
    """Name the modules with matrices of their own that the transform cannot be put around.

    known: ids of the modules that need not be named.
    """
    left = [
        f"{name or 'itself'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if (inside is None or name in inside)
        and id(module) not in known
        and not isinstance(module, nn.Embedding)
        and any(p is not None and p.dim() >= 2 for p in module._parameters.values())
    ]
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        warnings.warn(
            "not adapted, because they are not linear layers or their weights are read directly: "
            f"{', '.join(left[:_SHOWN])}{more}",
            stacklevel=4,
        )
