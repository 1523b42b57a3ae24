"""Mixtures: weights over experts, for the whole model or layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from t2agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weights a_k over experts: W' = U diag(s * (1 + sum_k a_k (z_k - 1))) V^T.

    Source: Transformer-Squared (arXiv 2501.06252), the few-shot strategy. There the weights are
    between 0 and 1; here any finite numbers do.

    ``weights`` maps the names of experts to their weights. ``layers`` maps a prefix of module
    names to weights that are laid over them in those modules: an expert that a layer does not
    mention keeps its weight. The longest prefix that ends at a dot decides. `Mixture()` is the
    base model. A mixture is immutable, hashable and can be pickled.

    Raises:
        ConfigError: a name is not a string of some length, or a weight not a finite number.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _checked(self.weights, "weights"))
        if not isinstance(self.layers, Mapping):
            raise ConfigError(
                f"layers is a {type(self.layers).__name__}; give {{prefix: {{name: weight}}}}"
            )
        layers = {}
        for prefix, weights in self.layers.items():
            if not isinstance(prefix, str) or not prefix.strip("."):
                raise ConfigError(f"{prefix!r} is not a module prefix such as 'model.layers.3'")
            layers[prefix.strip(".")] = _checked(weights, f"weights of layer {prefix!r}")
        object.__setattr__(self, "layers", MappingProxyType(layers))

    def __hash__(self) -> int:
        layers = frozenset((prefix, frozenset(w.items())) for prefix, w in self.layers.items())
        return hash((frozenset(self.weights.items()), layers))

    def __reduce__(self) -> tuple[Any, ...]:
        plain = self.to_dict()
        return Mixture, (plain["weights"], plain["layers"])

    def __bool__(self) -> bool:
        """False where the mixture is the base model: every weight is zero."""
        return any(self.weights.values()) or any(any(w.values()) for w in self.layers.values())

    def experts(self) -> frozenset[str]:
        """The names of all experts mentioned, those with weight zero among them."""
        return frozenset(self.weights).union(*self.layers.values())

    def coefficients(self, module_name: str) -> Mapping[str, float]:
        """The weights in one module; experts whose weight there is zero are left out."""
        weights = self.weights
        if self.layers:
            prefix = module_name
            while prefix and prefix not in self.layers:
                prefix = prefix.rpartition(".")[0]
            if prefix:
                weights = {**self.weights, **self.layers[prefix]}
        return {name: weight for name, weight in weights.items() if weight}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain JSON: ``{"weights": {...}, "layers": {prefix: {...}}}``."""
        layers = {prefix: dict(weights) for prefix, weights in self.layers.items()}
        return {"weights": dict(self.weights), "layers": layers}

    @classmethod
    def from_dict(cls, plain: object) -> Mixture:
        """The mixture that `to_dict` wrote.

        Raises:
            ConfigError: it is not a mixture in plain JSON.
        """
        if not isinstance(plain, Mapping) or not plain.keys() <= {"weights", "layers"}:
            raise ConfigError("a mixture in JSON is an object with 'weights' and, maybe, 'layers'")
        return cls(plain.get("weights", {}), plain.get("layers", {}))

    def to_text(self) -> str:
        """On one line, as in the names of models that are served: ``tools=0.7+extract=0.3``, and
        ``tools`` for that expert alone, with weight 1.

        Raises:
            ConfigError: it has weights by layers, or none at all, which no name can say.
        """
        if self.layers or not self.weights:
            raise ConfigError(
                f"a mixture {'by layers' if self.layers else 'without experts'} has no name; give "
                "one of whole experts"
            )
        if list(self.weights.values()) == [1.0]:
            return next(iter(self.weights))
        parts = (f"{name}={weight!r}" for name, weight in self.weights.items())
        return "+".join(part.replace("+", "") for part in parts)

    @classmethod
    def from_text(cls, text: str) -> Mixture:
        """The mixture that `to_text` wrote; an expert without a weight has weight 1.

        Raises:
            ConfigError: it is none, or has an expert twice.
        """
        weights: dict[str, float] = {}
        for part in text.split("+"):
            name, equals, number = part.partition("=")
            try:
                weight = float(number) if equals else 1.0
            except ValueError:
                weight = math.nan
            if not name or not math.isfinite(weight) or name in weights:
                raise ConfigError(
                    f"{text!r:.80} is no mixture; give each expert once, such as "
                    "'tools=0.7+extract=0.3', or 'tools'"
                )
            weights[name] = weight
        return cls(weights)


def _checked(weights: object, what: str) -> Mapping[str, float]:
    if not isinstance(weights, Mapping):
        raise ConfigError(f"{what} is a {type(weights).__name__}; give {{name: weight}}")
    checked = {}
    for name, weight in weights.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{what} has the key {name!r}; give the name of an expert")
        try:
            value = float(weight)  # NumPy's numbers too
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if isinstance(weight, str | bool) or not math.isfinite(value):
            raise ConfigError(f"the weight of {name!r} is {weight!r}; give a finite number")
        checked[name] = value
    return MappingProxyType(checked)
