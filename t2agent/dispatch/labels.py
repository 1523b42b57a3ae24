"""What each label learns from: the cards of a registry's experts, or examples given directly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, get_args, runtime_checkable

from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard, Modality, Step

MODALITIES: tuple[Modality, ...] = ("text", "image")

Texts = tuple[str, ...]


class Experts(Protocol):
    """What the dispatcher needs of a `Registry`."""

    @property
    def fingerprint(self) -> str:
        """Changes with the experts."""
        ...

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """The cards by name."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


@runtime_checkable
class Proven(Protocol):
    """Experts of which some may not be chosen by dispatch itself."""

    def eligible_cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """The cards of those that may, by name."""
        ...


def choosable(experts: Experts, modality: Modality | None = None) -> dict[str, ExpertCard]:
    """The cards of the experts that dispatch may choose by itself."""
    found = experts.eligible_cards if isinstance(experts, Proven) else experts.cards
    return dict(found(modality))


class Sources:
    """Examples by label, from cards and from calls. Not safe for use by several threads."""

    def __init__(self, registry: Experts | None) -> None:
        self._registry = registry
        # None: the examples are those of the registry's cards.
        self._given: Mapping[str, Texts] | None = None if registry is not None else {}
        self._added: dict[str, Texts] = {}
        # Labels whose first examples, from cards or `fit`, do not count any more.
        self._removed: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """The registry's: when it changes, so may `of`."""
        return "" if self._registry is None else self._registry.fingerprint

    def digest(self) -> str:
        """A hash of what was given by calls."""
        given = None if self._given is None else sorted(self._given.items())
        told = (given, sorted(self._added.items()), sorted(self._removed))
        return hashlib.sha256(_bytes(repr(told))).hexdigest()[:16]

    def fit(self, examples: Mapping[str, Sequence[str]]) -> None:
        """Use these examples alone. Raises ConfigError as `EmbeddingDispatcher.fit`."""
        if not isinstance(examples, Mapping):
            raise ConfigError(
                f"examples is a {type(examples).__name__}; give {{label: [example, ...]}}"
            )
        given = {label: self._checked(label, texts) for label, texts in examples.items()}
        self._given, self._added, self._removed = given, {}, frozenset()

    def add(self, label: str, examples: Sequence[str]) -> None:
        """Add a label or examples to one. Raises ConfigError as `EmbeddingDispatcher.fit`."""
        checked = self._checked(label, examples)
        self._added[label] = (*self._added.get(label, ()), *checked)

    def remove(self, label: str) -> None:
        """Forget a label. Raises ConfigError where there is none of that name."""
        known = sorted({name for modality in MODALITIES for name in self.of(modality)})
        if label not in known:
            raise ConfigError(
                f"there is no label {label!r} to remove; there are: {', '.join(known) or 'none'}"
            )
        self._added.pop(label, None)
        self._removed |= {label}

    def of(self, modality: Modality) -> dict[str, Texts]:
        """The examples of the labels for requests of a modality; labels and examples in canonical
        order, without duplicates. Requests with an image may go to any expert, where one of them
        is for images. Without a registry, labels are for text; with one, the classifier expert is
        left out."""
        cards = self._cards(modality)
        proven = {} if self._registry is None else choosable(self._registry)
        found: dict[str, Texts] = (
            {n: (*card.examples, card.description) for n, card in cards.items() if n in proven}
            if self._given is None
            else dict(self._given)
        )
        found = {label: texts for label, texts in found.items() if label not in self._removed}
        for label, texts in self._added.items():
            found[label] = (*found.get(label, ()), *texts)
        if self._registry is not None:
            found = {label: texts for label, texts in found.items() if label in cards}
        elif modality != "text":
            found = {}
        if self._registry is not None and modality == "image" and not self.seeing() & found.keys():
            found = {}
        kept = {label: _canonical(found[label]) for label in sorted(found)}
        return {label: texts for label, texts in kept.items() if texts}

    def by_step(self, modality: Modality) -> dict[Step, dict[str, Texts]]:
        """What `of` gives, by the steps that the experts' cards name; other labels are for text."""
        cards = {} if self._registry is None else self._registry.cards()
        found: dict[Step, dict[str, Texts]] = {step: {} for step in get_args(Step)}
        for label, texts in self.of(modality).items():
            found[cards[label].step if label in cards else "text"][label] = texts
        return found

    def negatives(self, modality: Modality) -> dict[str, Texts]:
        """What the experts' cards say that they are not for, as `of` gives what they are for."""
        cards = self._cards(modality) if self._given is None else {}
        kept = {n: _canonical(card.negatives) for n, card in cards.items() if card.negatives}
        return {label: texts for label, texts in kept.items() if texts}

    def _cards(self, modality: Modality) -> dict[str, ExpertCard]:
        if self._registry is None:
            return {}
        cards = self._registry.cards(None if modality == "image" else modality)
        return {name: card for name, card in cards.items() if name != CLASSIFIER}

    def seeing(self) -> frozenset[str]:
        """The labels of the experts for images."""
        return frozenset() if self._registry is None else frozenset(self._registry.cards("image"))

    def _checked(self, label: str, texts: Sequence[str]) -> Texts:
        if not isinstance(label, str) or not label:
            raise ConfigError(f"{label!r} is not a label; give a string of some length")
        if (
            isinstance(texts, str)
            or not isinstance(texts, Sequence)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ConfigError(
                f"the examples of {label!r} are {texts!r:.60}; give a sequence of strings"
            )
        if not any(text.strip() for text in texts):
            raise ConfigError(f"label {label!r} has no examples; give at least one of some length")
        if self._registry is not None and label == CLASSIFIER:
            raise ConfigError(
                f"label {label!r} is the expert that answers category questions, so no request "
                "could go to it; register an expert of another name"
            )
        if self._registry is not None and label not in self._registry:
            raise ConfigError(
                f"label {label!r} is not an expert of the registry, so no request could go to it; "
                f"register it first. Registered: {', '.join(self._registry) or 'none'}"
            )
        return tuple(texts)


def in_words(label: str) -> str:
    """A label as one would say it: "transfer_money" is "transfer money"."""
    return re.sub(r"[\W_]+", " ", label).strip() or label


def _canonical(texts: Sequence[str]) -> Texts:
    """Distinct texts in an order that depends on nothing but them: neither on when they were
    given, nor on their first letters, by which they would be dealt unevenly to the folds."""
    kept = {text for text in texts if text.strip()}
    return tuple(sorted(kept, key=lambda text: hashlib.sha256(_bytes(text)).digest()))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
