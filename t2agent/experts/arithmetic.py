"""Arithmetic on experts: sums and multiples of what they change.

An expert changes a weight by W' - W = U diag(s (z - 1)) V^T (Transformer-Squared, eq. 1), which is
linear in the displacement z - 1. So sums, differences and multiples of displacements are those of
"task vectors" (Ilharco et al., arXiv 2212.04089), without a weight being touched, and
``0.7 * a + 0.3 * b`` does what ``Mixture({"a": 0.7, "b": 0.3})`` does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self, SupportsFloat, TypeGuard

from t2agent.errors import ConfigError, ExpertMismatchError
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


class Arithmetic:
    """The operators of `t2agent.Expert`: ``a + b``, ``a - b``, ``-a``, ``2 * a``, ``a / 2``.

    ``sum`` works, too. A module that one side does not name counts as z = 1 there. The result lies
    on the CPU, without gradients; its vectors are summed in float64 and kept in float32. Its card
    says which experts it is made of, in ``training["terms"]``; it has the example requests of those
    that are added, and no scores. Its name is made from theirs, such as "0.7-math-plus-0.3-json";
    `renamed` gives it one of its own.

    Raises ExpertMismatchError for experts of different base models, ConfigError for a factor that
    is not finite.
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's numbers leave `number * expert` to the expert

    if TYPE_CHECKING:
        card: ExpertCard
        z: Mapping[str, Tensor]

        def digest(self) -> str:
            """As of `Expert`."""

    def __add__(self, other: object) -> Self:
        return self._sum(1.0, other) if isinstance(other, Arithmetic) else NotImplemented

    def __radd__(self, other: object) -> Self:
        # sum() starts from 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: object) -> Self:
        return self._sum(-1.0, other) if isinstance(other, Arithmetic) else NotImplemented

    def __neg__(self) -> Self:
        return self._times(-1.0)

    def __mul__(self, factor: object) -> Self:
        return self._times(float(factor)) if _is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Self:
        return self._times(1.0 / float(divisor)) if _is_number(divisor) else NotImplemented

    def renamed(self, name: str, **changes: Any) -> Self:
        """The same vectors under another name, and with other fields of the card where given.

        Raises ConfigError for what cannot be on a card.
        """
        return self._made(replace(self.card, name=name, **changes), self.z)

    def _sum(self, sign: float, other: Arithmetic) -> Self:
        base, fingerprint = common_base([self, other])
        terms = [*self._terms(), *(t._replace(weight=sign * t.weight) for t in other._terms())]
        one, two = self.card, other.card
        examples = one.examples + (two.examples if sign > 0 else ())
        card = ExpertCard(
            "sum",
            examples=tuple(dict.fromkeys(examples)),
            modality=one.modality if one.modality == two.modality else "image",
            base=base,
            base_fingerprint=fingerprint,
            license=one.license if one.license == two.license else "",
        )
        return self._made(_told(card, terms), combined([(1.0, self.z), (sign, other.z)]))

    def _times(self, factor: float) -> Self:
        if not math.isfinite(factor):
            raise ConfigError(
                f"expert {self.card.name!r} was multiplied by {factor}; a factor is a finite number"
            )
        terms = [term._replace(weight=factor * term.weight) for term in self._terms()]
        examples = self.card.examples if factor > 0 else ()
        card = replace(self.card, examples=examples, scores={})
        return self._made(_told(card, terms), combined([(factor, self.z)]))

    def _terms(self) -> list[Term]:
        """What the expert is a sum of: itself, unless arithmetic made it and nobody named it."""
        if self.card.training.get("method") == METHOD:
            terms = _read(self.card.training.get("terms"))
            if _name(terms) == self.card.name:
                return terms
        return [Term(1.0, self.card.name, self.digest())]

    def _made(self, card: ExpertCard, z: Mapping[str, Tensor]) -> Self:
        return type(self)(card, z)  # type: ignore[call-arg]


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


def common_base(experts: Iterable[Arithmetic]) -> tuple[str, str]:
    """The name and the fingerprint of the base model that experts share; "" where none says it.

    Raises:
        ExpertMismatchError: two have different fingerprints, or vectors of different lengths for
            one module.
    """
    base = fingerprint = ""
    bound: Arithmetic | None = None
    lengths: dict[str, tuple[int, str]] = {}
    for expert in experts:
        card = expert.card
        if card.base_fingerprint and bound is None:
            bound, base, fingerprint = expert, card.base or base, card.base_fingerprint
        elif bound is not None and card.base_fingerprint not in ("", fingerprint):
            raise ExpertMismatchError(
                f"expert {bound.card.name!r} is for {base or 'a base model'!r} with fingerprint "
                f"{fingerprint}, expert {card.name!r} for {card.base or 'a base model'!r} with "
                f"{card.base_fingerprint}: their directions are not the same. Transfer one to the "
                "base model of the other first (t2agent.experts.transfer, t2agent experts transfer)"
            )
        base = base or card.base
        for module, vector in expert.z.items():
            length, owner = lengths.setdefault(module, (len(vector), card.name))
            if length != len(vector):
                raise ExpertMismatchError(
                    f"expert {owner!r} has {length} numbers for {module!r}, expert {card.name!r} "
                    f"{len(vector)}: they are for different base models"
                )
    return base, fingerprint


def _is_number(value: object) -> TypeGuard[SupportsFloat]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _told(card: ExpertCard, terms: Iterable[Term]) -> ExpertCard:
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
        name=_name(kept),
        description=f"Arithmetic on experts: {words}.",
        training={"method": METHOD, "terms": [term._asdict() for term in kept]},
    )


def _name(terms: Sequence[Term]) -> str:
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


def _read(plain: object) -> list[Term]:
    """The terms that a card tells; none where it tells them in another form."""
    try:
        terms = [(float(t["weight"]), t["expert"], t["sha256"]) for t in plain]  # type: ignore[attr-defined]
        return [Term(weight, str(expert), str(sha256)) for weight, expert, sha256 in terms]
    except (TypeError, KeyError, ValueError, OverflowError):
        return []
