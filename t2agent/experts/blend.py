"""A mixture of experts as one expert: z = 1 + sum_k a_k (z_k - 1), layer by layer.

A mixture is linear in z (Transformer-Squared, few-shot strategy), so the one expert does exactly
what the mixture does, up to the rounding of z to float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from t2agent.errors import ConfigError
from t2agent.experts.algebra import combined
from t2agent.experts.card import ExpertCard
from t2agent.experts.compatibility import common_base
from t2agent.experts.expert import Expert
from t2agent.experts.mixture import Mixture

if TYPE_CHECKING:
    from torch import Tensor

METHOD = "blend"
"""What the card of a blend says under ``training["method"]``."""


def blend(
    mixture: Mixture,
    experts: Iterable[Expert],
    name: str,
    *,
    description: str = "",
) -> Expert:
    """The expert ``name`` that does what a mixture does.

    Its card has the mixture, with the SHA-256 of each expert, and the example requests of those
    whose weight is positive somewhere; it has no scores.

    Args:
        mixture: per-layer weights too.
        experts: those that it names; others are passed over.
        name, description: for the card.

    Raises:
        ConfigError: the mixture names none, or an expert that is not given.
        ExpertMismatchError: the experts are for different base models.
    """
    parts = [expert for expert in experts if expert.name in mixture.experts()]
    missing = mixture.experts() - {expert.name for expert in parts}
    if missing:
        raise ConfigError(f"the mixture names {min(missing)!r}, which was not given; give it too")
    base, fingerprint = common_base(parts)
    laid = [mixture.weights, *mixture.layers.values()]
    wanted = [e for e in parts if any(weights.get(e.name, 0.0) > 0 for weights in laid)]
    modalities = {expert.card.modality for expert in wanted}
    licenses = {expert.card.license for expert in parts}
    card = ExpertCard(
        name,
        description=description or f"Blend of {', '.join(expert.name for expert in parts)}.",
        examples=tuple(dict.fromkeys(text for e in wanted for text in e.card.examples)),
        modality="image" if "image" in modalities else "text",
        base=base,
        base_fingerprint=fingerprint,
        training={
            "method": METHOD,
            "mixture": mixture.to_dict(),
            "experts": {expert.name: expert.digest() for expert in parts},
        },
        license=licenses.pop() if len(licenses) == 1 else "",
    )
    return Expert(card, blended(mixture, parts))


def blended(
    mixture: Mixture, experts: Iterable[Expert], shapes: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """The vectors of a mixture of these experts, float32 on the CPU.

    shapes: module name -> length of its z, for modules that no expert names; they are at 1. With
        it, the mixture may be empty.

    Raises:
        ConfigError: there is no vector at all.
    """
    import torch

    parts = list(experts)
    modules = {module for expert in parts for module in expert.z}
    found = {module: torch.ones(length) for module, length in (shapes or {}).items()}
    for module in sorted(modules):
        weights = mixture.coefficients(module)
        terms = [
            (weights.get(expert.name, 0.0), {module: expert.z[module]})
            for expert in parts
            if module in expert.z
        ]
        found |= combined(terms)
    if not found:
        raise ConfigError("the mixture is the base model; name an expert and its weight")
    return found
