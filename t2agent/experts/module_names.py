"""What the names of a model's modules tell: which layer a module is in, and what it is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_WRAPPERS = frozenset(
    {"model", "language_model", "text_model", "transformer", "decoder", "backbone"}
)


class Place(NamedTuple):
    """Where a module is, whatever wraps its language model.

    "model.layers.3.mlp.up_proj" of a Llama and "model.language_model.layers.3.mlp.up_proj" of a
    Llava have the stack "layers", the layer 3 and the kind "mlp.up_proj". A module outside numbered
    layers has no stack, the layer None, and its name without the wrappers as its kind.
    """

    stack: str
    layer: int | None
    kind: str


def place(name: str) -> Place:
    """The place of a module: its first number is the layer."""
    parts = name.split(".")
    number = next((k for k, part in enumerate(parts) if part.isascii() and part.isdecimal()), None)
    if number is None:
        return Place("", None, _bare(parts))
    return Place(_bare(parts[:number]), int(parts[number]), ".".join(parts[number + 1 :]))


def depths(names: Iterable[str]) -> dict[str, int]:
    """Stack -> how many layers it has, as far as these modules tell."""
    layers: dict[str, int] = {}
    for stack, layer, _ in map(place, names):
        if layer is not None:
            layers[stack] = max(layers.get(stack, 0), layer + 1)
    return layers


def _bare(parts: Iterable[str]) -> str:
    return ".".join(part for part in parts if part not in _WRAPPERS)
