"""Whether an expert is for a base model, and whether experts are for the same one.

Fingerprints decide where both are known, then shapes, and names where neither is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from t2agent.errors import ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.paths import base_slug

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What is known of a base model.

    ``fingerprint`` is empty and ``shapes`` (module name -> length of its z) None while the model
    is not loaded. ``expert`` names the expert that all this is known from, where it is one.
    """

    name: str
    fingerprint: str = ""
    shapes: Mapping[str, int] | None = None
    expert: str = ""

    @property
    def slug(self) -> str:
        """The name of its folders."""
        return base_slug(self.name)

    def is_foreign(self, card: ExpertCard) -> bool:
        """Whether a card names another base model, by name and not by weights of its own."""
        named_otherwise = bool(card.base) and base_slug(card.base) != self.slug
        return named_otherwise and (
            not card.base_fingerprint or card.base_fingerprint != self.fingerprint
        )

    def misfit(self, card: ExpertCard, lengths: Mapping[str, int]) -> ExpertMismatchError | None:
        """Why an expert cannot be used, or None.

        Args:
            card: the expert's card.
            lengths: module name -> length of the expert's vector.
        """
        if self.fingerprint and card.base_fingerprint:
            foreign = self.fingerprint != card.base_fingerprint
        else:
            foreign = self.shapes is None and self.is_foreign(card)
        carry = "t2agent experts transfer NAME --from BASE --to MODEL"
        if foreign:
            this = f"expert {self.expert!r} is for" if self.expert else "this is"
            return ExpertMismatchError(
                f"expert {card.name!r} was made for base model {card.base or '(not named)'!r} "
                f"with fingerprint {card.base_fingerprint or '(not given)'}, but {this} "
                f"{self.name or '(not named)'!r} with fingerprint "
                f"{self.fingerprint or '(not loaded)'}: their directions are not the same. Use it "
                "with its own base model, train one for this one, or carry it over and measure "
                f"what it is worth here: {carry}."
            )
        if self.shapes is None:
            return None
        for module, length in lengths.items():
            needed = self.shapes.get(module)
            if needed is None:
                return ExpertMismatchError(
                    f"expert {card.name!r} has a vector for {module!r:.200}, which is not an "
                    f"adapted layer of {self.name!r} ({len(self.shapes)} layers are). Load the "
                    "model with the targets that the expert was trained with."
                )
            if needed != length:
                there = f"the layer in {self.name!r} needs"
                there = f"expert {self.expert!r} has" if self.expert else there
                return ExpertMismatchError(
                    f"expert {card.name!r} has {length} numbers for {module!r:.200}, but {there} "
                    f"{needed}. Use it with its own base model, or carry it over: {carry}."
                )
        return None


class Bound(Protocol):
    """What `common_base` asks of an expert."""

    @property
    def card(self) -> ExpertCard:
        """Name and base model."""

    @property
    def z(self) -> Mapping[str, Tensor]:
        """Module name -> vector."""


def common_base(experts: Iterable[Bound]) -> tuple[str, str]:
    """The name and the fingerprint of the base model that experts share; "" where none says it.

    Raises:
        ExpertMismatchError: two have different fingerprints, or vectors of different lengths for
            one module.
    """
    base = ""
    bound: Bound | None = None  # the first that has a fingerprint
    first: dict[str, Bound] = {}  # with a vector for a module
    for expert in experts:
        card, lengths = expert.card, {module: len(z) for module, z in expert.z.items()}
        own = BaseModel(card.base, card.base_fingerprint, lengths, expert=card.name)
        earlier = [first[module] for module in lengths if module in first]
        for other in dict.fromkeys(earlier if bound is None else [bound, *earlier]):
            shared = {module: len(z) for module, z in other.z.items() if module in lengths}
            if (problem := own.misfit(other.card, shared)) is not None:
                raise problem
        if bound is None and card.base_fingerprint:
            bound, base = expert, card.base or base
        base = base or card.base
        first = dict.fromkeys(lengths, expert) | first
    return base, bound.card.base_fingerprint if bound is not None else ""
