"""Dispatch to mixtures that were searched with a few examples of a task (strategy C).

`adapt` runs the search of `t2agent.dispatch.few_shot.search` and makes what it found available:

- with a name, as an expert of the registry: the mixture's own vector 1 + sum_k a_k (z_k - 1) of
  each layer, with the examples' requests on its card. Any strategy may choose it, it can be used
  by name, saved and loaded;
- without a name, as the `Latest` of this process, for the strategies below alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypedDict

from t2agent.dispatch.dispatcher import Adapted, Decision, Latest, Request
from t2agent.dispatch.embedding import EmbeddingDispatcher
from t2agent.dispatch.few_shot.search import SearchOptions, SearchResult, fitting, search
from t2agent.dispatch.few_shot.shots import Examples, Shots, gather
from t2agent.dispatch.labels import MODALITIES, Experts, choosable
from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.errors import ConfigError, ExpertExistsError
from t2agent.experts.blend import blended
from t2agent.experts.card import ExpertCard, Modality, check_name
from t2agent.experts.expert import Expert, Mixture, MixtureLike
from t2agent.experts.selection import Selection
from t2agent.models.model import T2Model
from t2agent.tasks.rewards.choice import Reward

METHOD = "few-shot"
"""What the card of an adapted expert says under ``training["method"]``."""

UNNAMED = "examples"
"""The label of the latest mixture that was found without a name."""

_TOP = 3  # experts that a search which starts from the embedding dispatcher goes on with


class FewShotDispatcher:
    """Answers with the mixture that was found for the task (strategy "few-shot", paper C).

    The tasks are those that `adapt` was called for: the experts of the registry that a search
    made, and the latest mixture without a name. As in the paper, the task is known where there
    is one: every request of its modality (with an image, or without) gets its mixture. Among
    several of a modality, an `EmbeddingDispatcher` over the examples' requests decides, also on
    whether a request is of any of them. Where there is no task of a request's modality, the base
    model answers.

    Args:
        experts: where the adapted experts are; a Registry or what reads like one.
        latest: the mixture without a name.
    """

    def __init__(self, experts: Experts, latest: Latest | None = None) -> None:
        self._tasks = _Tasks(experts, latest or Latest(), every=False)
        self._nearest = EmbeddingDispatcher(self._tasks)

    @property
    def version(self) -> str:
        """Changes with whatever changes a decision, besides the registry; for caches."""
        return f"1 {self._tasks.own} {self._nearest.version}"

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide on each request. ``scores`` has a probability for each task of its modality.

        Raises:
            ConfigError: nothing has been adapted to.
        """
        if not self._tasks.cards():
            raise ConfigError(
                "strategy 'few-shot' has no task yet: call chat.adapt(examples) with about ten "
                "(request, answer) pairs of the task, or with a task, and a name to keep it"
            )
        started = time.perf_counter()
        found = self._tasks.latest.found
        only: dict[bool, str | None] = {}
        for modality in MODALITIES:
            names = list(self._tasks.cards(modality))
            if len(names) < 2:
                only[modality == "image"] = names[0] if names else None
        asked = [r for r in requests if bool(r.images) not in only]
        nearest = iter(self._nearest.dispatch(asked) if asked else ())
        decisions = [
            _decision(only[bool(r.images)], found)
            if bool(r.images) in only
            else _named(next(nearest), found, METHOD)
            for r in requests
        ]
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [replace(decision, seconds=seconds) for decision in decisions]


class RefinedDispatcher:
    """Decides as `EmbeddingDispatcher` among all experts and adapted tasks ("embedding+few-shot").

    A task's examples are what it is recognised by; it gets the mixture that was found for it.
    Arguments as of `FewShotDispatcher`. `adapt` with ``start="embedding"`` is the other half of
    this strategy: there the embedding dispatcher's decision on the examples is refined by search.
    """

    strategy = "embedding+few-shot"

    def __init__(self, experts: Experts, latest: Latest | None = None) -> None:
        self._tasks = _Tasks(experts, latest or Latest(), every=True)
        self._nearest = EmbeddingDispatcher(self._tasks)

    @property
    def version(self) -> str:
        """As of `FewShotDispatcher`."""
        return f"1 {self._tasks.own} {self._nearest.version}"

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide on each request, with scores as of `EmbeddingDispatcher`."""
        found = self._tasks.latest.found
        return [
            _named(decision, found, self.strategy) for decision in self._nearest.dispatch(requests)
        ]

    @property
    def tool_similarity(self) -> ToolSimilarity:
        """How well tools fit requests."""
        return self._nearest.tool_similarity

    def wants_tools(self, request: Request) -> bool:
        """As of `EmbeddingDispatcher`, the adapted tasks among its experts."""
        return self._nearest.wants_tools(request)


class AdaptOptions(TypedDict, total=False):
    """Those of `adapt` that `t2agent.engine.two_passes.Engine.adapt` takes, too."""

    reward: Reward | None
    start: Literal["embedding"] | MixtureLike
    replace_existing: bool
    persist: bool
    options: SearchOptions | None
    progress: bool
    cancel: threading.Event | None


def adapt(
    model: T2Model,
    examples: Examples,
    *,
    experts: Experts | None = None,
    latest: Latest | None = None,
    name: str | None = None,
    reward: Reward | None = None,
    start: Literal["embedding"] | MixtureLike = None,
    replace_existing: bool = False,
    persist: bool = False,
    options: SearchOptions | None = None,
    progress: bool = True,
    cancel: threading.Event | None = None,
) -> SearchResult:
    """Search a mixture for a task and make it available for dispatch.

    Args:
        model: the base model.
        examples, reward: as in `t2agent.dispatch.few_shot.shots.gather`.
        experts: those to mix; None for all of the model's registry. Of modality "image" only
            where an example has an image; never the classifier expert, or the one to replace.
        latest: where the mixture goes if no name is given.
        name: of the expert that is registered.
        start: a mixture to try with the first ones. "embedding": the embedding dispatcher's mean
            probabilities over the examples' requests, and the search is limited to the three
            experts that are most probable by them.
        replace_existing: whether an expert of that name may be replaced.
        persist: whether the expert is saved in the user's folder, for later processes.
        options, progress, cancel: as in `search`.

    Raises:
        ExpertExistsError: the name is taken, and ``replace_existing`` is False.
        ConfigError: as `search`, the name cannot name an expert, or there is none to persist.
    """
    options = SearchOptions() if options is None else options
    if persist and name is None:
        raise ConfigError("persist saves an expert, which needs a name; give name=")
    if name is not None:
        check_name(name)
        if name in model.registry and not replace_existing:
            raise ExpertExistsError(
                f"an expert {name!r} is registered for {model.name!r} already; give "
                "replace=True or another name"
            )
    shots = gather(
        examples, reward, count=options.examples, seed=options.seed, max_tokens=options.max_tokens
    )
    pool: Experts = model.registry if experts is None else experts
    names = [other for other in fitting(model, shots, pool) if other != name]
    starts: list[MixtureLike] = [] if start is None else [start]
    if start == "embedding":
        guess = _guess(Selection(model.registry, names), shots, names)
        names = list(guess.weights) or names
        starts = [guess]
    result = search(
        model, shots, experts=names, start=starts, options=options, progress=progress, cancel=cancel
    )
    card = ExpertCard(
        name or UNNAMED,
        description="",
        examples=tuple(dict.fromkeys(example.prompt for example in shots.examples)),
        modality=shots.modality,
        base=model.name,
        base_fingerprint=model.fingerprint,
        training={
            "method": METHOD,
            "mixture": result.mixture.to_dict(),
            "examples": len(shots),
            "tried": len(result.tried),
            "seed": options.seed,
            "seconds": round(result.seconds, 1),
        },
        scores={"examples": result.score, "examples_base": _base(result)},
    )
    if name is not None:
        mixture, parts = model.resolve(result.mixture)
        made = Expert(card, blended(mixture, parts, model.shapes))
        model.registry.register(made, replace=replace_existing, persist=persist)
    elif latest is not None:
        latest.found = Adapted(result.mixture, card)
    return result


class _Tasks:
    """The adapted tasks, and maybe the other experts, read as a registry is."""

    def __init__(self, experts: Experts, latest: Latest, *, every: bool) -> None:
        self._experts, self._every = experts, every
        self.latest = latest

    @property
    def own(self) -> str:
        """Changes with the mixture without a name."""
        return repr(self.latest.found)

    @property
    def fingerprint(self) -> str:
        """Changes with the tasks."""
        return f"{self._experts.fingerprint} {self.own}"

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """As `Registry.cards`."""
        proven = choosable(self._experts, modality) if self._every else {}
        cards = {
            name: card
            for name, card in self._experts.cards(modality).items()
            if name in proven or card.training.get("method") == METHOD
        }
        found = self.latest.found
        if found is not None and modality in (None, found.card.modality):
            cards[UNNAMED] = found.card
        return cards

    def __contains__(self, name: object) -> bool:
        return name in self.cards()

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards())


def _decision(name: str | None, found: Adapted | None) -> Decision:
    """For a request of which the task is known."""
    if name is None:
        return Decision(Mixture(), METHOD, {}, False, 0.0)
    return _named(Decision(Mixture({name: 1.0}), METHOD, {name: 1.0}), found, METHOD)


def _named(decision: Decision, found: Adapted | None, strategy: str) -> Decision:
    """With the mixture without a name in the place of its label."""
    if found is not None and UNNAMED in decision.mixture.weights:
        return replace(decision, mixture=found.mixture, strategy=strategy)
    return replace(decision, strategy=strategy)


def _guess(experts: Experts, shots: Shots, names: Sequence[str]) -> Mixture:
    """The embedding dispatcher's mean probabilities over the examples, of the top experts."""
    requests = [Request(e.prompt, len(e.images), e.tools) for e in shots.examples]
    total: dict[str, float] = {}
    for decision in EmbeddingDispatcher(experts).dispatch(requests):
        for name in decision.scores.keys() & set(names):
            total[name] = total.get(name, 0.0) + decision.scores[name] / len(requests)
    top = sorted(total, key=lambda name: (-total[name], name))[:_TOP]
    return Mixture({name: total[name] for name in top})


def _base(result: SearchResult) -> float | None:
    """The base model's score, where it was tried."""
    return result.finalists[0].trial.score if result.finalists else None
