"""Dispatch by embedding: the request is compared with the experts' example requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.dispatcher import Decision, Request
from t2agent.dispatch.encoder import DEFAULT_ENCODER, Encoder, Vectors
from t2agent.dispatch.fitting import Fitted, fit
from t2agent.dispatch.label_requests import LabelRequests
from t2agent.dispatch.labels import MODALITIES, Experts, Sources, Texts
from t2agent.dispatch.pieces import Piece, pieces
from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.dispatch.tool_requests import ToolRequests, goes_on
from t2agent.dispatch.vectors import ExampleVectors
from t2agent.errors import ConfigError
from t2agent.experts.card import Modality, Step
from t2agent.experts.mixture import Mixture
from t2agent.models.options import Count, Number, Positive, check_option, needs

_VERSION = 9  # raise it with whatever changes decisions

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

    Experts whose cards name another ``step`` than "text" are chosen at that step of a conversation
    alone, without the gate: "calls" as just said; "results" where a tool's result came last, unless
    the request asks for a tool that has not been called yet, which is again for "calls"
    (`t2agent.dispatch.tool_requests.goes_on`); "json" where the reply must be JSON; "labels" where
    the request offers labels for a text (`t2agent.dispatch.label_requests`). Of several for one
    step, their examples decide. Where no expert is for a step, the request is one of text.

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
        self._given: dict[Modality, dict[Step, dict[str, Texts]]] = {}
        self._fitted: dict[tuple[Modality, Step], Fitted | None] = {}
        self._tools: dict[Modality, ToolRequests] = {}
        self._labels: dict[Modality, LabelRequests] = {}
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
            self._fit("text", "text")
        return self

    def add(self, label: str, examples: Sequence[str]) -> EmbeddingDispatcher:
        """Learn a further label, or further examples of a label: the same as fitting anew.

        Raises ConfigError as `fit`.
        """
        with self._lock:
            self._sources.add(label, examples)
            self._forget()
            self._fit("text", "text")
        return self

    def remove(self, label: str) -> EmbeddingDispatcher:
        """Forget a label: the same as fitting anew without it.

        Raises:
            ConfigError: there is no such label.
        """
        with self._lock:
            self._sources.remove(label)
            self._forget()
            self._fit("text", "text")
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text, in scope or not.

        Raises ConfigError where there are no labels.
        """
        fitted = self._needed()
        best = fitted.classifier.logits(self._encode(texts)).argmax(axis=1)
        return [fitted.labels[k] for k in best]

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Calibrated probabilities, (texts, labels), columns as in `labels`; of each text as a
        whole, and given that one of the labels is meant.

        Raises ConfigError where there are no labels.
        """
        fitted = self._needed()
        return fitted.classifier.probabilities(fitted.classifier.logits(self._encode(texts)))

    def scope(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """How much each text, as a whole, is like the examples, (texts,); high is in scope.

        Raises ConfigError where there are no labels.
        """
        return judged(self._needed(), self._encode(texts))[0]

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
            rows = [i for i, request in enumerate(requests) if _modality(request) == modality]
            if rows:
                found = self._decide(modality, [requests[i] for i in rows])
                decided |= dict(zip(rows, found, strict=True))
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [
            Decision(one.mixture, "embedding", one.scores, one.inside, seconds, *one.gate)
            for one in (decided[i] for i in range(len(requests)))
        ]

    def wants_tools(self, request: Request) -> bool:
        """Whether one of the tools on offer is meant, rather than an answer without them.

        Where no expert is for tools, nobody knows, and it is True.
        """
        tools = self._tool_requests(_modality(request))
        return tools is None or tools.wanting(request) is not None

    def step(self, request: Request) -> Step:
        """The step of a conversation at which a request stands, as the experts' cards name it."""
        return self._standing(_modality(request), request)[0]

    def _decide(self, modality: Modality, requests: Sequence[Request]) -> list[Chosen]:
        standing = [self._standing(modality, request) for request in requests]
        found: dict[int, Chosen] = {}
        for step in dict.fromkeys(step for step, _ in standing):
            rows = [i for i, (own, _) in enumerate(standing) if own == step]
            asked = [(requests[i], standing[i][1]) for i in rows]
            found |= dict(zip(rows, self._at(step, modality, asked), strict=True))
        return [found[i] for i in range(len(requests))]

    def _standing(self, modality: Modality, request: Request) -> tuple[Step, tuple[Piece, ...]]:
        """The step at which a request stands, and what of its text decides among the experts."""
        there = self._examples(modality)
        whole = (Piece((request.text,), True, False),)
        if request.called and there["results"]:
            if there["calls"] and goes_on(request, self.tool_similarity):
                return "calls", whole
            return ("json" if request.json and there["json"] else "results"), whole
        tools = self._tool_requests(modality) if request.tools else None
        if tools is not None and (asked := tools.wanting(request)) is not None:
            return "calls", (asked,)
        if request.json and there["json"]:
            return "json", whole
        if there["labels"] and self._label_requests(modality).offer(request.text):
            return "labels", whole
        return "text", pieces(request.text)

    def _at(
        self, step: Step, modality: Modality, asked: Sequence[tuple[Request, tuple[Piece, ...]]]
    ) -> list[Chosen]:
        """The experts for requests that stand at a step."""
        among: frozenset[str] | None = None
        if step == "calls":
            tools = self._tool_requests(modality)
            assert tools is not None
            fitted: Fitted | None = tools.asked
            among = tools.calling
        else:
            fitted = self._current(modality, step)
        if fitted is None:
            return [Chosen(Mixture(), {}, False)] * len(asked)
        if step != "text" and len(fitted.labels) == 1:
            return [Chosen(Mixture({fitted.labels[0]: 1.0}), {fitted.labels[0]: 1.0}, True)] * len(
                asked
            )
        texts = [text for _, read in asked for one in read for text in one.lengths]
        chosen = iter(
            choose(
                fitted,
                self._encode(texts),
                top_k=self._top_k,
                seeing=self._sources.seeing() if modality == "image" else None,
                # A request without words is one for nobody.
                inside=[step != "text" or (None if t.strip() else False) for t in texts],
                among=among,
            )
        )
        return [
            together([(one, [next(chosen) for _ in one.lengths]) for one in read])
            for _, read in asked
        ]

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

    def _examples(self, modality: Modality) -> dict[Step, dict[str, Texts]]:
        """The examples of the labels by the steps that they are for."""
        with self._lock:
            if self._sources.fingerprint != self._fitted_for:
                self._forget()
            if modality not in self._given:
                self._given[modality] = self._sources.by_step(modality)
            return self._given[modality]

    def _current(self, modality: Modality, step: Step = "text") -> Fitted | None:
        with self._lock:
            self._examples(modality)
            if (modality, step) not in self._fitted:
                self._fit(modality, step)
            return self._fitted[modality, step]

    def _tool_requests(self, modality: Modality) -> ToolRequests | None:
        """What was learned of requests for tools; None where no expert is for tools."""
        with self._lock:
            given, fitted = self._examples(modality), self._current(modality)
            calling = frozenset(given["calls"]) | (fitted.calling if fitted else frozenset())
            if not calling:
                return None
            if modality not in self._tools:
                fitting = partial(self._fitted_to, negatives=self._sources.negatives(modality))
                self._tools[modality] = ToolRequests.learned(
                    dict(sorted({**given["text"], **given["calls"]}.items())),
                    calling,
                    self.tool_similarity,
                    fitting,
                )
            return self._tools[modality]

    def _label_requests(self, modality: Modality) -> LabelRequests:
        """What was learned of requests that offer labels."""
        with self._lock:
            given = self._examples(modality)["labels"]
            if modality not in self._labels:
                self._labels[modality] = LabelRequests.learned(
                    given, self._vectors.of, self.tool_similarity.request_vector
                )
            return self._labels[modality]

    def _forget(self) -> None:
        # Read before the cards: a change in between is then seen at the next request.
        self._fitted_for = self._sources.fingerprint
        self._given, self._fitted, self._tools, self._labels = {}, {}, {}, {}

    def _fit(self, modality: Modality, step: Step) -> None:
        given, negatives = self._examples(modality), self._sources.negatives(modality)
        others = [t for other, own in given.items() if other != step for t in own.values()]
        elsewhere = [text for texts in others for text in texts] if step == "text" else []
        self._fitted[modality, step] = self._fitted_to(given[step], negatives, elsewhere)
        kept = (*given[step].values(), *others, *negatives.values())
        self._vectors.forget_all_but(text for texts in kept for text in texts)

    def _fitted_to(
        self,
        given: Mapping[str, Sequence[str]],
        negatives: Mapping[str, Sequence[str]],
        elsewhere: Sequence[str] = (),
    ) -> Fitted | None:
        return fit(given, self._vectors, self._temperature, self._threshold, negatives, elsewhere)


def _modality(request: Request) -> Modality:
    return "image" if request.images else "text"


class Chosen(NamedTuple):
    """A mixture, each label's probability, whether the request is in scope, and where a gate
    decided that, its value and threshold."""

    mixture: Mixture
    scores: dict[str, float]
    inside: bool
    gate: tuple[float, float] | tuple[()] = ()


_CLEAR = 0.5  # probability from which a text expert is taken for a request with an image
_NEAR = 0.1  # of the gate's value for one of the log odds that a request is meant for its label
_LONGER = 0.08  # of the gate's value, that a piece in a greater length must be in scope by
_CERTAIN = 12.0  # log odds of a single label for one of the gate's value


def judged(
    fitted: Fitted,
    vectors: Vectors,
    seeing: frozenset[str] | None = None,
    among: frozenset[str] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The gate's value of each text (n,), the labels' probabilities (n, labels), and the same
    with 0 for the labels that may not be chosen; arguments as of `choose`."""
    logits = fitted.classifier.logits(vectors)
    odds = fitted.classifier.probabilities(logits)
    allowed = np.stack([_allowed(fitted.labels, row, seeing, among) for row in odds])
    gates = fitted.gate.scope(vectors, logits)
    margin = fitted.near.margin(vectors, allowed.argmax(axis=1))
    return np.minimum(gates, fitted.gate.threshold + _NEAR * margin), odds, allowed


def certainties(
    fitted: Fitted, odds: NDArray[np.float64], gates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each label's probability; that of a single one is its certainty against none at all."""
    if len(fitted.labels) > 1:
        return odds
    return np.asarray(1 / (1 + np.exp(-_CERTAIN * (gates - fitted.gate.threshold))))[:, None]


def together(read: Sequence[tuple[Piece, Sequence[Chosen]]]) -> Chosen:
    """One decision by the pieces of a request, each in several lengths.

    A piece speaks by its first length that is in scope, a longer one by a margin, since what stands
    beside a question may be what is like a request. Where lengths or pieces want different experts,
    neither has it. A piece in scope has it over one that is not, unless that asks about what stands
    beside it, or nobody knows which one asks.
    """
    found: list[Chosen] = []
    for piece, chosen in read:
        inside = [one for k, one in enumerate(chosen) if one.inside and (not k or _clearly(one))]
        if len({one.mixture for one in inside}) > 1:
            return inside[0]._replace(mixture=Mixture(), inside=False, gate=())
        if not inside and (piece.of_material or not piece.asks):
            return _refused(chosen[0])
        found.append(inside[0] if inside else _refused(chosen[0]))
    inside = [one for one in found if one.inside]
    if len({one.mixture for one in inside}) > 1:
        return inside[0]._replace(mixture=Mixture(), inside=False, gate=())
    return inside[0] if inside else found[0]


def _clearly(one: Chosen) -> bool:
    return not one.gate or one.gate[0] >= one.gate[1] + _LONGER


def _refused(one: Chosen) -> Chosen:
    return one._replace(mixture=Mixture(), inside=False)


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
    gates, odds, allowed = judged(fitted, vectors, seeing, among)
    told = [None] * len(vectors) if inside is None else inside
    found: list[Chosen] = []
    for row, may, value, known in zip(
        certainties(fitted, odds, gates), allowed, gates, told, strict=True
    ):
        scores = dict(zip(fitted.labels, map(float, row), strict=True))
        gate = (float(value), fitted.gate.threshold) if known is None else ()
        scope = bool(value >= fitted.gate.threshold) if known is None else known
        mixture = _mixture(fitted.labels, may, top_k) if scope else Mixture()
        found.append(Chosen(mixture, scores, scope, gate))
    return found


def _allowed(
    labels: Sequence[str],
    odds: NDArray[np.float64],
    seeing: frozenset[str] | None,
    among: frozenset[str] | None,
) -> NDArray[np.float64]:
    """The labels' probabilities (labels,), 0 for those that may not be chosen."""
    if among is not None:
        return np.where([label in among for label in labels], odds, 0.0)
    if seeing is not None and odds.max() <= _CLEAR:
        return np.where([label in seeing for label in labels], odds, 0.0)
    return odds


def _mixture(labels: Sequence[str], odds: NDArray[np.float64], top_k: int) -> Mixture:
    best = np.argsort(-odds, kind="stable")[:top_k]
    total = float(odds[best].sum())
    if top_k == 1 or total <= 0:
        return Mixture({labels[int(best[0])]: 1.0})
    return Mixture({labels[k]: float(odds[k]) / total for k in best if odds[k] > 0})
