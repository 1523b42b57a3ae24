"""Dispatch by embedding: the request is compared with the experts' example requests."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2agent.card import ExpertCard, Modality
from t2agent.dispatch.base import Decision, Request
from t2agent.dispatch.encoder import DEFAULT_ENCODER, Encoder, Vectors
from t2agent.dispatch.fitted import Fitted, fit
from t2agent.dispatch.vectors import ExampleVectors
from t2agent.errors import ConfigError
from t2agent.mixture import Mixture

_VERSION = 1  # raise it with whatever changes decisions
_MODALITIES: tuple[Modality, ...] = ("text", "image")


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


class EmbeddingDispatcher:
    """Chooses experts by the likeness of a request to their example requests.

    A sentence encoder turns texts into unit vectors; logistic regression (C = 10) on them gives
    each expert a probability, calibrated by a cross-validated temperature; a gate apart from it
    (`t2agent.dispatch.scope`) sends requests that no expert is meant for to the base model. Text
    requests are dispatched among the experts of modality "text", requests with images among those
    of modality "image".

    With a registry, it learns from the examples and descriptions of the experts' cards, on the
    first request and again whenever the registry changes. `fit` gives it examples directly;
    without a registry such labels are for text. A label that is named after a domain of which
    requests ship with t2agent (math, code, reasoning), and whose examples are mostly of that
    domain, learns from the shipped ones as well: examples from one source are a narrow picture
    of a domain.

    All methods may be called from any thread.

    Args:
        registry: the experts to choose among.
        encoder: "all-MiniLM-L6-v2", or any sentence-transformers model by name or folder.
        top_k: how many experts are mixed; their probabilities, made to add up to 1, are the
            weights.
        temperature: divides the logits; None for the cross-validated one.
        scope_threshold: requests with a lower `scope` go to the base model; None for the
            cross-validated one.

    Raises:
        ConfigError: an argument is unusable.
    """

    def __init__(
        self,
        registry: Experts | None = None,
        *,
        encoder: str = DEFAULT_ENCODER,
        top_k: int = 1,
        temperature: float | None = None,
        scope_threshold: float | None = None,
    ) -> None:
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
            raise ConfigError(f"top_k is {top_k!r}; it must be a whole number of at least 1")
        if temperature is not None and not (_is_finite(temperature) and temperature > 0):
            raise ConfigError(
                f"temperature is {temperature!r}; it must be a finite number above 0, or None to "
                "have it cross-validated"
            )
        if scope_threshold is not None and not _is_finite(scope_threshold):
            raise ConfigError(
                f"scope_threshold is {scope_threshold!r}; it must be a finite number, or None to "
                "have it cross-validated"
            )
        self._registry = registry
        self._top_k = top_k
        self._temperature = temperature
        self._threshold = scope_threshold
        self._encoder = Encoder(encoder)
        self._vectors = ExampleVectors(self._encoder)
        self._lock = threading.RLock()
        self._given: dict[str, tuple[str, ...]] | None = None if registry is not None else {}
        self._added: dict[str, tuple[str, ...]] = {}
        self._removed: frozenset[str] = frozenset()
        self._fitted: dict[Modality, Fitted | None] = {}
        self._fitted_for: str | None = None

    def __repr__(self) -> str:
        return f"EmbeddingDispatcher(encoder={self._encoder.name!r}, top_k={self._top_k})"

    @property
    def version(self) -> str:
        """Changes with whatever changes a decision, besides the registry; for caches."""
        options = (self._encoder.name, self._top_k, self._temperature, self._threshold)
        with self._lock:
            told = (self._given, sorted(self._added.items()), sorted(self._removed))
        return f"{_VERSION} {options} {hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels for text requests, sorted: the columns of `scores`."""
        fitted = self._current("text")
        return () if fitted is None else fitted.labels

    def fit(self, examples: Mapping[str, Sequence[str]]) -> EmbeddingDispatcher:
        """Learn from these examples alone: label -> example requests, in any order.

        With a registry, labels are the names of its experts.

        Raises:
            ConfigError: no mapping, a label or an example is no text, a label has no examples, or
                is not in the registry.
        """
        if not isinstance(examples, Mapping):
            raise ConfigError(
                f"examples is a {type(examples).__name__}; give {{label: [example, ...]}}"
            )
        checked = {label: self._checked(label, texts) for label, texts in examples.items()}
        with self._lock:
            self._given, self._added, self._removed = checked, {}, frozenset()
            self._fit()
        return self

    def add(self, label: str, examples: Sequence[str]) -> EmbeddingDispatcher:
        """Learn a further label, or further examples of a label: the same as fitting anew.

        Raises ConfigError as `fit`.
        """
        checked = self._checked(label, examples)
        with self._lock:
            self._removed -= {label}
            self._added[label] = (*self._added.get(label, ()), *checked)
            self._fit()
        return self

    def remove(self, label: str) -> EmbeddingDispatcher:
        """Forget a label: the same as fitting anew without it.

        Raises:
            ConfigError: there is no such label.
        """
        with self._lock:
            known = sorted({name for m in _MODALITIES for name in self._examples(m)})
            if label not in known:
                raise ConfigError(
                    f"there is no label {label!r} to remove; the labels are {', '.join(known)}"
                )
            self._added.pop(label, None)
            if self._given is not None:
                self._given = {k: v for k, v in self._given.items() if k != label}
            else:
                self._removed |= {label}
            self._fit()
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text, in scope or not.

        Raises ConfigError where there are no labels.
        """
        fitted = self._needed()
        best = fitted.classifier.logits(self._encode(texts)).argmax(axis=1)
        return [fitted.labels[k] for k in best]

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Calibrated probabilities, (texts, labels), columns as in `labels`.

        Raises ConfigError where there are no labels.
        """
        fitted = self._needed()
        return fitted.classifier.probabilities(fitted.classifier.logits(self._encode(texts)))

    def scope(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """How much each text is like the examples, (texts,); high is in scope.

        Raises ConfigError where there are no labels.
        """
        fitted = self._needed()
        vectors = self._encode(texts)
        return fitted.gate.scope(vectors, fitted.classifier.logits(vectors))

    @property
    def scope_threshold(self) -> float:
        """Text requests whose `scope` is at least this are in scope.

        Raises ConfigError where there are no labels.
        """
        return self._needed().gate.threshold

    @property
    def temperature(self) -> float:
        """What divides the logits of text requests.

        Raises ConfigError where there are no labels.
        """
        return self._needed().classifier.temperature

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide on each request. Out of scope, or without an expert for it: the base model.

        ``scores`` has a probability for each label of the request's modality.
        """
        started = time.perf_counter()
        decided: dict[int, tuple[Mixture, dict[str, float], bool]] = {}
        for modality in _MODALITIES:
            rows = [i for i, r in enumerate(requests) if bool(r.images) == (modality == "image")]
            fitted = self._current(modality) if rows else None
            if fitted is None:
                decided |= {i: (Mixture(), {}, False) for i in rows}
                continue
            vectors = self._encode([requests[i].text for i in rows])
            logits = fitted.classifier.logits(vectors)
            inside = fitted.gate.scope(vectors, logits) >= fitted.gate.threshold
            odds = fitted.classifier.probabilities(logits)
            for i, row, within in zip(rows, odds, inside, strict=True):
                scope = bool(within) and bool(requests[i].text.strip())
                mixture = self._mixture(fitted.labels, row) if scope else Mixture()
                scores = dict(zip(fitted.labels, map(float, row), strict=True))
                decided[i] = mixture, scores, scope
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [
            Decision(mixture, "embedding", scores, scope, seconds)
            for mixture, scores, scope in (decided[i] for i in range(len(requests)))
        ]

    def _mixture(self, labels: Sequence[str], odds: NDArray[np.float64]) -> Mixture:
        if self._top_k == 1:
            return Mixture({labels[int(odds.argmax())]: 1.0})
        best = np.argsort(-odds, kind="stable")[: self._top_k]
        total = float(odds[best].sum())
        return Mixture({labels[k]: float(odds[k]) / total for k in best})

    def _encode(self, texts: Sequence[str]) -> Vectors:
        if isinstance(texts, str):
            raise ConfigError(f"texts is the string {texts[:40]!r}; give a sequence of strings")
        return self._encoder.encode(texts)

    def _needed(self) -> Fitted:
        fitted = self._current("text")
        if fitted is None:
            raise ConfigError(
                "the dispatcher has no labels for text: call fit({label: examples}), or register "
                "an expert of modality 'text' whose card has examples"
            )
        return fitted

    def _current(self, modality: Modality) -> Fitted | None:
        with self._lock:
            seen = "" if self._registry is None else self._registry.fingerprint
            if seen != self._fitted_for:
                self._fit()
            return self._fitted[modality]

    def _fit(self) -> None:
        # Read before the cards: a change in between is then seen at the next request.
        seen = "" if self._registry is None else self._registry.fingerprint
        examples = {modality: self._examples(modality) for modality in _MODALITIES}
        fitted = {
            modality: fit(texts, self._vectors, self._temperature, self._threshold)
            for modality, texts in examples.items()
        }
        self._vectors.forget_all_but(t for e in examples.values() for ts in e.values() for t in ts)
        self._fitted, self._fitted_for = fitted, seen

    def _examples(self, modality: Modality) -> dict[str, tuple[str, ...]]:
        """What the labels of a modality learn from, in canonical order and without duplicates."""
        cards = {} if self._registry is None else self._registry.cards(modality)
        if self._given is None:
            found = {name: _card_texts(card) for name, card in cards.items()}
        else:
            found = dict(self._given)
        for label, texts in self._added.items():
            found[label] = (*found.get(label, ()), *texts)
        for label in list(found):
            foreign = label not in cards if self._registry is not None else modality != "text"
            if foreign or label in self._removed or not found[label]:
                del found[label]
        return {label: _canonical(found[label]) for label in sorted(found)}

    def _checked(self, label: str, texts: Sequence[str]) -> tuple[str, ...]:
        if not isinstance(label, str) or not label:
            raise ConfigError(f"{label!r} is not a label; give a string of some length")
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"the examples of {label!r} must be a sequence of strings")
        if not any(text.strip() for text in texts):
            raise ConfigError(f"label {label!r} has no examples; give at least one of some length")
        if self._registry is not None and label not in self._registry:
            raise ConfigError(
                f"label {label!r} is not an expert of the registry, so no request could go to it; "
                f"register it first. Registered: {', '.join(self._registry) or 'none'}"
            )
        return tuple(texts)


def _card_texts(card: ExpertCard) -> tuple[str, ...]:
    return (*card.examples, card.description)


def _canonical(texts: Sequence[str]) -> tuple[str, ...]:
    """Distinct texts in an order that depends on nothing but them: neither on when they were
    given, nor on their first letters, by which they would be dealt unevenly to the folds."""
    kept = {text for text in texts if text.strip()}
    return tuple(sorted(kept, key=lambda text: hashlib.sha256(_bytes(text)).digest()))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
