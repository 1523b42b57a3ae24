"""Whether an expert is for a base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from t2agent.errors import ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.paths import base_slug


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What is known of a base model.

    ``fingerprint`` is empty and ``shapes`` (module name -> length of its z) None while the model
    is not loaded.
    """

    name: str
    fingerprint: str = ""
    shapes: Mapping[str, int] | None = None

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

        Fingerprints decide where both are known, then shapes, and names where neither is.

        Args:
            card: the expert's card.
            lengths: module name -> length of the expert's vector.
        """
        if self.fingerprint and card.base_fingerprint:
            foreign = self.fingerprint != card.base_fingerprint
        else:
            foreign = self.shapes is None and self.is_foreign(card)
        if foreign:
            return ExpertMismatchError(
                f"expert {card.name!r} was made for base model {card.base or '(not named)'!r} "
                f"with fingerprint {card.base_fingerprint or '(not given)'}, but this is "
                f"{self.name!r} with fingerprint {self.fingerprint or '(not loaded)'}. Use it "
                "with its own base model, train one for this one, or carry it over and measure "
                "what it is worth here: t2agent experts transfer NAME --from BASE --to MODEL."
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
                return ExpertMismatchError(
                    f"expert {card.name!r} has {length} numbers for {module!r:.200}, but the layer "
                    f"in {self.name!r} needs {needed}. Use it with its own base model."
                )
        return None
