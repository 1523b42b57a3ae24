"""Dispatch by embedding: the request is compared with the experts' example requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.dispatcher import Decision, Request
from t2agent.dispatch.encoder import DEFAULT_ENCODER, Encoder, Vectors
from t2agent.dispatch.fitting import Fitted, fit
from t2agent.dispatch.labels import MODALITIES, Experts, Sources
from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.dispatch.tool_requests import ToolRequests
from t2agent.dispatch.vectors import ExampleVectors
from t2agent.errors import ConfigError
from t2agent.experts.card import Modality
from t2agent.experts.mixture import Mixture
from t2agent.models.options import Count, Number, Positive, check_option, needs

_VERSION = 6  # raise it with whatever changes decisions

_FITTED = "or None to have it cross-validated"
_Temperature = Annotated[Positive | None, needs(f"a finite number above 0, {_FITTED}")]
_Threshold = Annotated[Number | None, needs(f"a finite number, {_FITTED}")]


class EmbeddingDispatcher:
    """Chooses experts by the likeness of a request to their example requests.

    A sentence encoder turns texts into unit vectors; logistic regression (C = 10) on them gives
    each expert a probability, calibrated by a cross-validated temperature; a gate apart from it
    (`t2agent.dispatch.scope`) sends requests that no expert is meant for to the base model. Text
    requests are dispatched among the experts of modality "text". Requests with images are
    dispatched among those of modality "image", unless a text expert is likelier than all others
    together: a sum that is shown in an image is still a sum. Where no expert is for images, the
    base model answers them. Where tools are on offer and there are experts whose example requests
    offer tools, these experts are chosen for the requests that want one of the tools
    (`wants_tools`); the others are dispatched as if there were none.

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
        check_option("top_k", top_k, Count)
        check_option("temperature", temperature, _Temperature)
        check_option("scope_threshold", scope_threshold, _Threshold)
        self._top_k = top_k
        self._temperature = temperature
        self._threshold = scope_threshold
        self._encoder = Encoder.shared(encoder)
        self._vectors = ExampleVectors(self._encoder)
        self._lock = threading.RLock()
        self._sources = Sources(registry)
        self._fitted: dict[Modality, Fitted | None] = {}
        self._tools: dict[Modality, ToolRequests] = {}
        self._fitted_for: str | None = None
        self.tool_similarity = ToolSimilarity(self._encoder)

    def __repr__(self) -> str:
        return f"EmbeddingDispatcher(encoder={self._encoder.name!r}, top_k={self._top_k})"

    @property
    def version(self) -> str:
        """Changes with whatever changes a decision, besides the registry; for caches."""
        options = (self._encoder.name, self._top_k, self._temperature, self._threshold)
        with self._lock:
            return f"{_VERSION} {options} {self._sources.digest()}"

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
        with self._lock:
            self._sources.fit(examples)
            self._forget()
            self._fit("text")
        return self

    def add(self, label: str, examples: Sequence[str]) -> EmbeddingDispatcher:
        """Learn a further label, or further examples of a label: the same as fitting anew.

        Raises ConfigError as `fit`.
        """
        with self._lock:
            self._sources.add(label, examples)
            self._forget()
            self._fit("text")
        return self

    def remove(self, label: str) -> EmbeddingDispatcher:
        """Forget a label: the same as fitting anew without it.

        Raises:
            ConfigError: there is no such label.
        """
        with self._lock:
            self._sources.remove(label)
            self._forget()
            self._fit("text")
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

        ``scores`` has a probability for each label that the request could go to.
        """
        started = time.perf_counter()
        decided: dict[int, Chosen] = {}
        for modality in MODALITIES:
            rows = [i for i, r in enumerate(requests) if bool(r.images) == (modality == "image")]
            if rows:
                found = self._decide(modality, [requests[i] for i in rows])
                decided |= dict(zip(rows, found, strict=True))
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [
            Decision(mixture, "embedding", scores, scope, seconds)
            for mixture, scores, scope in (decided[i] for i in range(len(requests)))
        ]

    def wants_tools(self, request: Request) -> bool:
        """Whether one of the tools on offer is meant, rather than an answer without them.

        Where no expert is for tools, nobody knows, and it is True.
        """
        tools = self._tool_requests("image" if request.images else "text")
        return tools is None or tools.wanted(request)

    def _decide(self, modality: Modality, requests: Sequence[Request]) -> list[Chosen]:
        fitted = self._current(modality)
        if fitted is None:
            return [(Mixture(), {}, False)] * len(requests)
        seeing = self._sources.seeing() if modality == "image" else None
        tools = self._tool_requests(modality) if any(r.tools for r in requests) else None
        wanted = [tools is not None and tools.wanted(r) for r in requests]
        found: dict[int, Chosen] = {}
        for wish in dict.fromkeys((None, tools)):
            rows = [i for i, one in enumerate(wanted) if one == (wish is not None)]
            if rows:
                texts = [requests[i].text for i in rows]
                chosen = choose(
                    fitted if wish is None else wish.asked,
                    self._encode(texts),
                    top_k=self._top_k,
                    seeing=seeing,
                    # A request without words is one for nobody.
                    inside=[wish is not None or (None if t.strip() else False) for t in texts],
                    among=None if wish is None else wish.calling,
                )
                found |= dict(zip(rows, chosen, strict=True))
        return [found[i] for i in range(len(requests))]

    def _encode(self, texts: Sequence[str]) -> Vectors:
        if isinstance(texts, str):
            raise ConfigError(f"texts is the string {texts!r:.40}; give a sequence of strings")
        for text in texts:
            if not isinstance(text, str):
                raise ConfigError(f"a text is {text!r:.40}; give strings")
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
            if self._sources.fingerprint != self._fitted_for:
                self._forget()
            if modality not in self._fitted:
                self._fit(modality)
            return self._fitted[modality]

    def _tool_requests(self, modality: Modality) -> ToolRequests | None:
        """What was learned of requests for tools; None where no expert is for tools."""
        with self._lock:
            fitted = self._current(modality)
            if fitted is None or not fitted.calling:
                return None
            if modality not in self._tools:
                given = self._sources.of(modality)
                self._tools[modality] = ToolRequests.learned(
                    given, fitted.calling, self.tool_similarity, self._fitted_to
                )
            return self._tools[modality]

    def _forget(self) -> None:
        # Read before the cards: a change in between is then seen at the next request.
        self._fitted_for = self._sources.fingerprint
        self._fitted, self._tools = {}, {}

    def _fit(self, modality: Modality) -> None:
        given = self._sources.of(modality)
        self._fitted[modality] = self._fitted_to(given)
        self._vectors.forget_all_but(text for own in given.values() for text in own)

    def _fitted_to(self, given: Mapping[str, Sequence[str]]) -> Fitted | None:
        return fit(given, self._vectors, self._temperature, self._threshold)


Chosen = tuple[Mixture, dict[str, float], bool]
"""A mixture, each label's probability, and whether the request is in scope."""

_CLEAR = 0.5  # probability from which a text expert is taken for a request with an image


def choose(
    fitted: Fitted,
    vectors: Vectors,
    *,
    top_k: int,
    seeing: frozenset[str] | None = None,
    inside: Sequence[bool | None] | None = None,
    among: frozenset[str] | None = None,
) -> list[Chosen]:
    """Choose experts for requests.

    vectors: of the requests, (n, dimension). top_k: how many experts are mixed. seeing: of
    requests with images, the labels that are for images. inside: whether each request is in
    scope; None where the gate decides. among: the labels that may be chosen; None for all.
    """
    logits = fitted.classifier.logits(vectors)
    gated = fitted.gate.scope(vectors, logits) >= fitted.gate.threshold
    told = [None] * len(vectors) if inside is None else inside
    rows = fitted.classifier.probabilities(logits)
    found: list[Chosen] = []
    for row, by_gate, known in zip(rows, gated, told, strict=True):
        scope = bool(by_gate) if known is None else known
        mixture = _mixture(fitted.labels, row, top_k, seeing, among) if scope else Mixture()
        found.append((mixture, dict(zip(fitted.labels, map(float, row), strict=True)), scope))
    return found


def _mixture(
    labels: Sequence[str],
    odds: NDArray[np.float64],
    top_k: int,
    seeing: frozenset[str] | None,
    among: frozenset[str] | None,
) -> Mixture:
    if among is not None:
        odds = np.where([label in among for label in labels], odds, 0.0)
    elif seeing is not None and odds.max() <= _CLEAR:
        odds = np.where([label in seeing for label in labels], odds, 0.0)
    best = np.argsort(-odds, kind="stable")[:top_k]
    total = float(odds[best].sum())
    if top_k == 1 or total <= 0:
        return Mixture({labels[int(best[0])]: 1.0})
    return Mixture({labels[k]: float(odds[k]) / total for k in best if odds[k] > 0})
