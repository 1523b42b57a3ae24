"""Few-shot adaptation: a mixture for a task of which a few examples are known (strategy C).

Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3: the cross-entropy method searches the
experts' weights on about ten examples; among mixtures with equal results, the likelihood of the
right answers decides. Deviations: the base model, every expert alone at several weights, the
uniform mixture and the top of the likelihood's gradient are tried first, so that the result is at
least as good as each of them on the examples; weights reach to 1.5; the deviation has a floor.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, StrictBool

from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.dispatch.few_shot.shots import Examples, Shots, gather
from t2agent.dispatch.few_shot.space import Space, Weights, climb
from t2agent.dispatch.few_shot.trials import Stop, Trial, Trials
from t2agent.dispatch.labels import Experts
from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture, MixtureLike
from t2agent.models.model import T2Model
from t2agent.models.options import Count, CountOrZero, Positive, Share, Whole, checked, needs
from t2agent.progress import Bar, progress_bar
from t2agent.tasks.reward import Reward

_LOW = 0.0
_FLOOR = 0.03  # of the deviation: a search that has settled still looks around


@checked
class SearchOptions:
    """How a mixture is searched.

    Attributes:
        examples: how many are drawn, where a task is given.
        iterations: generations of the cross-entropy method; 0 for none.
        population: mixtures of a generation, tried as one batch.
        elite: share of them that the next generation is drawn from.
        spread: standard deviation of the first generation.
        highest: bound of a weight; the lowest is 0.
        scales: weights besides 1 at which each expert is tried alone.
        climb: steps up the likelihood's gradient; 0 for none.
        per_layer: whether to go on with weights for each decoder layer, from the flat optimum.
        max_evaluations: most mixtures tried.
        max_seconds: after which nothing new is tried; None for no bound.
        max_tokens: longest reply; None for the task's own, else 128.
        rows: replies in one batch.
        seed: of all draws.

    Raises:
        ConfigError: a value is outside its range.
    """

    examples: Count = 10
    iterations: CountOrZero = 6
    population: Annotated[Whole, Field(ge=2), needs("a whole number of at least 2")] = 14
    elite: Share = 0.3
    spread: Positive = 0.4
    highest: Positive = 1.5
    scales: tuple[Positive, ...] = (0.5, 1.5)
    climb: CountOrZero = 30
    per_layer: StrictBool = False
    max_evaluations: Count = 200
    max_seconds: Positive | None = None
    max_tokens: Count | None = None
    rows: Count = 64
    seed: CountOrZero = 0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found: the best of all ``tried``, which are in their order, the base first.

    ``score``: its mean reward on the examples. ``likelihood``: mean log-likelihood of the
    references. ``history``: after each phase ("first", "scaled", "gradient", "generation 1", ...),
    how many had been tried, the best reward and its likelihood. ``complete``: False where the
    search was cancelled or ran out of time.
    """

    mixture: Mixture
    score: float
    likelihood: float
    tried: tuple[Trial, ...]
    history: tuple[tuple[str, int, float, float], ...]
    seconds: float
    complete: bool


def search(
    model: T2Model,
    examples: Examples,
    reward: Reward | None = None,
    experts: Sequence[str] | None = None,
    *,
    start: Sequence[MixtureLike] = (),
    options: SearchOptions | None = None,
    progress: bool = True,
    cancel: threading.Event | None = None,
) -> SearchResult:
    """Find the mixture with the best mean reward on the examples.

    Same arguments, same result, unless time ran out. It ends early where a mixture gets all that
    a reward can give. Cancelled before anything was tried, it gives the base model.

    Args:
        model: the base model.
        examples, reward: as in `t2agent.dispatch.few_shot.shots.gather`.
        experts: names of those to mix; None for all of the registry that fit the examples: those
            of modality "image" only where an example has one, never the classifier expert.
        start: mixtures to try first, with the base model and the single experts.
        options: `SearchOptions`.
        progress: show a bar on stderr.
        cancel: ends the search at the next token when it is set.

    Raises:
        ConfigError: examples or options are unusable, or there are no experts to mix.
        ExpertNotFoundError: an expert is unknown.
    """
    options = SearchOptions() if options is None else options
    shots = gather(
        examples,
        reward,
        count=options.examples,
        seed=options.seed,
        max_tokens=options.max_tokens,
    )
    names = fitting(model, shots) if experts is None else list(dict.fromkeys(experts))
    if not names:
        raise ConfigError(
            f"{model.name} has no experts to mix: register some, or train one with train_expert"
        )
    starts = [model.resolve(what).mixture for what in (*names, *start)][len(names) :]
    begun = time.perf_counter()
    stop = Stop(cancel, options.max_seconds)
    run = _Search(model, shots, tuple(names), options, stop)
    with progress_bar(f"adapting to {shots.name}", run.most(len(starts)), progress) as bar:
        run.go(starts, bar)
    best = run.trials.best or Trial(Mixture(), -1.0, -math.inf)
    return SearchResult(
        best.mixture,
        best.reward,
        best.likelihood,
        tuple(run.trials),
        tuple(run.history),
        time.perf_counter() - begun,
        not stop,
    )


def fitting(model: T2Model, shots: Shots, experts: Experts | None = None) -> list[str]:
    """The experts that may be mixed for the examples, of a registry or of what reads like one."""
    found = (model.registry if experts is None else experts).cards()
    return [
        name
        for name, card in found.items()
        if name != CLASSIFIER and card.modality in ("text", shots.modality)
    ]


class _Search:
    """One search, from its first mixtures to its last generation."""

    def __init__(
        self,
        model: T2Model,
        shots: Shots,
        names: tuple[str, ...],
        options: SearchOptions,
        stop: Stop,
    ) -> None:
        self.model, self.options, self.stop = model, options, stop
        self.space = Space(names)
        self.trials = Trials(model, shots, rows=options.rows, stop=stop)
        self.history: list[tuple[str, int, float, float]] = []
        self.random = np.random.default_rng(options.seed)

    def most(self, starts: int) -> int:
        """How many mixtures would be tried if nothing ended the search early."""
        options, singles = self.options, len(self.space.names) * (1 + len(self.options.scales))
        rounds = 1 + options.per_layer
        later = rounds * (options.iterations * options.population + bool(options.climb))
        return min(options.max_evaluations, 2 + singles + starts + later)

    def go(self, starts: Sequence[Mixture], bar: Bar) -> None:
        """Try what is simple, climb the gradient, then run the generations."""
        names, options = self.space.names, self.options
        singles = [Mixture({name: 1.0}) for name in names]
        uniform = self.space.mixture(np.full((1, len(names)), 1 / len(names)))
        scaled = [Mixture({name: scale}) for scale in options.scales for name in names]
        self._try("first", [Mixture(), *singles, uniform, *starts], bar)
        if not self._done():
            self._try("scaled", scaled, bar)
        self._refine("", bar)
        if options.per_layer:
            self.space = Space.by_layer(names, list(self.model.shapes))
            self._refine(" by layer", bar)

    def _refine(self, suffix: str, bar: Bar) -> None:
        options, best = self.options, self.trials.best
        if best is None or self._done():
            return
        bounds = _LOW, options.highest
        if options.climb:
            top = climb(
                self.model,
                self.space,
                self.space.weights(best.mixture).clip(*bounds),
                self.trials.targets,
                bounds=bounds,
                steps=options.climb,
                stop=lambda: bool(self.stop),
            )
            self._try(f"gradient{suffix}", [self.space.mixture(top)], bar)
        mean = self._best_weights().clip(*bounds)
        deviation = np.full_like(mean, options.spread)
        for number in range(1, options.iterations + 1):
            if self._done():
                return
            drawn = [mean, *self._draw(mean, deviation, options.population - 1)]
            weights = {self.space.mixture(one): one for one in drawn}
            weights[self.space.mixture(self._best_weights())] = self._best_weights()
            self._try(f"generation {number}{suffix}", list(weights), bar)
            known = [mixture for mixture in weights if mixture in self.trials]
            known.sort(key=lambda mixture: self.trials[mixture].rank, reverse=True)
            elite = [weights[m] for m in known[: max(2, round(options.elite * len(known)))]]
            mean, deviation = np.mean(elite, axis=0), np.std(elite, axis=0) + _FLOOR

    def _try(self, phase: str, mixtures: Sequence[Mixture], bar: Bar) -> None:
        new = [m for m in dict.fromkeys(mixtures) if m not in self.trials]
        self.trials.run(new[: max(0, self.options.max_evaluations - len(self.trials))], bar)
        best = self.trials.best
        if best is not None:
            self.history.append((phase, len(self.trials), best.reward, best.likelihood))

    def _done(self) -> bool:
        best = self.trials.best
        perfect = best is not None and best.reward >= 1.0
        return perfect or bool(self.stop) or len(self.trials) >= self.options.max_evaluations

    def _best_weights(self) -> Weights:
        best = self.trials.best
        return self.space.weights(Mixture() if best is None else best.mixture)

    def _draw(self, mean: Weights, deviation: Weights, count: int) -> Weights:
        """Normal draws truncated to the bounds, (count, rows, experts)."""
        from scipy.special import ndtr, ndtri

        low, high = ((bound - mean) / deviation for bound in (_LOW, self.options.highest))
        share = self.random.uniform(ndtr(low), ndtr(high), (count, *mean.shape))
        drawn = mean + deviation * ndtri(share)
        return np.asarray(drawn.clip(_LOW, self.options.highest))
