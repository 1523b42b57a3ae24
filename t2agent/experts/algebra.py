"""Arithmetic on experts: sums and multiples of what they change.

An expert changes a weight by W' - W = U diag(s (z - 1)) V^T (Transformer-Squared, eq. 1), which is
linear in the displacement z - 1. So sums, differences and multiples of displacements are those of
"task vectors" (Ilharco et al., arXiv 2212.04089), without a weight being touched, and
``0.7 * a + 0.3 * b`` does what ``Mixture({"a": 0.7, "b": 0.3})`` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat, TypeGuard

from t2agent.experts.card import NAME_LENGTH, ExpertCard

if TYPE_CHECKING:
    from torch import Tensor

METHOD = "arithmetic"
"""What the card of such an expert says under ``training["method"]``."""

_HASHED = 8  # characters of a hash that stand for the rest of a long name
_DESCRIBED = 200  # characters of a description


class Term(NamedTuple):
    """One expert of a sum. ``sha256``: of its vectors."""

    weight: float
    expert: str
    sha256: str


def combined(terms: Sequence[tuple[float, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """1 + sum_k a_k (z_k - 1) of each module that is named; float32, on the CPU, no gradient."""
    import torch

    modules = dict.fromkeys(module for _, z in terms for module in z)
    found = {}
    for module in modules:
        parts = [(weight, z[module]) for weight, z in terms if module in z]
        total = torch.ones(len(parts[0][1]), dtype=torch.float64)
        for weight, vector in parts:
            total += weight * (vector.detach().cpu().double() - 1)
        found[module] = total.float()
    return found


def is_number(value: object) -> TypeGuard[SupportsFloat]:
    """Whether an expert can be multiplied by it: a real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def told(card: ExpertCard, terms: Iterable[Term]) -> ExpertCard:
    """The card with a name, description and record made of the terms."""
    weights: dict[tuple[str, str], float] = {}
    for weight, expert, sha256 in terms:
        weights[expert, sha256] = weights.get((expert, sha256), 0.0) + weight
    kept = [Term(weight, *key) for key, weight in weights.items() if weight]
    words = " ".join(f"{t.weight:+.4g} {t.expert}" for t in kept) or "nothing"
    if len(words) > _DESCRIBED:
        words = words[: _DESCRIBED - 3] + "..."
    return replace(
        card,
        name=name_of(kept),
        description=f"Arithmetic on experts: {words}.",
        training={"method": METHOD, "terms": [term._asdict() for term in kept]},
    )


def name_of(terms: Sequence[Term]) -> str:
    """A name for a sum, such as "0.7-math-plus-0.3-json"; a long one ends in a hash of it all."""
    text = ""
    for weight, expert, _ in terms:
        sign = "minus-" if weight < 0 else "plus-" if text else ""
        factor = "" if abs(weight) == 1 else f"{abs(weight):.4g}-".replace("+", "")
        text += ("-" if text else "") + sign + factor + expert
    if len(text) > NAME_LENGTH:
        digest = hashlib.sha256(repr(list(terms)).encode()).hexdigest()[:_HASHED]
        text = f"{text[: NAME_LENGTH - _HASHED - 1]}-{digest}"
    return text or "identity"


def terms_of(plain: Any) -> list[Term]:
    """The terms that a card tells; none where it tells them in another form."""
    try:
        terms = [(float(t["weight"]), t["expert"], t["sha256"]) for t in plain]
        return [Term(weight, str(expert), str(sha256)) for weight, expert, sha256 in terms]
    except (TypeError, KeyError, ValueError, OverflowError):
        return []
