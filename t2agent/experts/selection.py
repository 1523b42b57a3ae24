"""Some of a registry's experts: those that dispatch may choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard, Modality
from t2agent.experts.expert import Expert
from t2agent.experts.registry import Registry


class Selection:
    """Some of a registry's experts, read as a registry is.

    asked: whether somebody named them, so that dispatch may choose each, whatever its card shows.
    """

    def __init__(self, registry: Registry, names: Sequence[str], *, asked: bool = True) -> None:
        self._registry = registry
        self._names = frozenset(names)
        self._asked = asked

    @classmethod
    def of(cls, registry: Registry, experts: Sequence[Expert | Path | str]) -> Selection:
        """These experts; an Expert or a folder is registered where it is not yet.

        Raises ConfigError where a single expert was given instead of a list,
        ExpertNotFoundError for an unknown name, and what `Registry.register` raises.
        """
        if isinstance(experts, str | Path | Expert) or not isinstance(experts, Iterable):
            raise ConfigError(f"experts is {experts!r}: give a list")
        names = []
        for given in experts:
            if isinstance(given, str) and (given in registry or not Path(given).is_dir()):
                names.append(registry.card(given).name)
                continue
            expert = given if isinstance(given, Expert) else Expert.load(given)
            there = registry.get(expert.name) if expert.name in registry else None
            if there is None or there.digest() != expert.digest():
                registry.register(expert)
            names.append(expert.name)
        return cls(registry, names)

    def add(self, name: str) -> None:
        """Let an expert of the registry be chosen as well."""
        self._names |= {name}

    def __len__(self) -> int:
        return len(self.cards())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._names and name in self._registry

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes an answer."""
        return f"{self._registry.fingerprint} {sorted(self._names)}"

    def names(self, modality: Modality | None = None) -> list[str]:
        """As `Registry.names`."""
        return list(self.cards(modality))

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """As `Registry.cards`."""
        return self._among(self._registry.cards(modality))

    def eligible_cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """As `Registry.eligible_cards`; all of them where somebody named them."""
        if self._asked:
            return self.cards(modality)
        return self._among(self._registry.eligible_cards(modality))

    def _among(self, cards: dict[str, ExpertCard]) -> dict[str, ExpertCard]:
        return {name: card for name, card in cards.items() if name in self._names}
