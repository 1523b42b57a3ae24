"""Few-shot adaptation: a mixture for a task of which a few examples are known (strategy C).

Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3: the cross-entropy method searches the
experts' weights on about ten examples; among mixtures with equal results, the likelihood of the
right answers decides. Deviations:

- Where no whole reply is known, but a bare answer, the right answers are a mixture's own greedy
  replies that were rewarded: among equals, the one that is most certain of them goes first.
- What is simple is tried first: the base model and every expert alone; then the best expert at
  other weights and with each other one. Only from a mixture that is better than these, the top of
  the likelihood's gradient and the generations are tried.
- All are tried on a few examples, and only the better half on more (successive halving; Jamieson
  and Talwalkar, arXiv 1502.07943).
- Sampled replies count as well as the greedy one (`Trial.score`).
- Doubts go to what is simpler: the base model, then an expert alone at weight 1. Another weight or
  a mixture must be better than both by more than two standard errors of the difference, example by
  example, and better on some examples that were kept out of the search for it. (Breiman, Friedman,
  Olshen and Stone, Classification and Regression Trees, 1984, sec. 3.4.3, choose the simplest
  within one standard error of the best; with two, chance passes in some 2 % of the cases.)
- Weights reach to 1.5; the deviation has a floor.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
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
from t2agent.errors import ConfigError, NoSignalWarning
from t2agent.experts.expert import Mixture, MixtureLike
from t2agent.models.model import T2Model
from t2agent.models.options import Count, CountOrZero, Positive, Share, Whole, checked, needs
from t2agent.progress import Bar, progress_bar
from t2agent.tasks.rewards.choice import Reward

_LOW = 0.0
_FEW = 0.4  # of the examples: what all are tried on before the better half goes on
_PAIRED = 0.5  # weight of the best expert, and of each other one beside it
_ENOUGH = 0.9  # a score beyond which no more is searched for
_ROUGHLY = 2  # most sampled replies to an example before the end
_SOON = 4  # sampled replies to an example after which what is _CLEAR behind gets no more
_CLEAR = 0.25
_NEAR = 0.2  # behind the best on what was seen: is compared with it on what was not
_CLOSER = 2  # experts that are compared with all samples
_ERRORS = 2  # standard errors by which a mixture must be better than what is simpler
_FLOOR = 0.03  # of the deviation: a search that has settled still looks around


@checked
class SearchOptions:
    """How a mixture is searched.

    Attributes:
        examples: how many are drawn, where a task is given.
        kept: share of the examples that the search for mixtures does not see.
        samples: sampled replies to an example, beside the greedy one, of what is compared at the
            end, unless four tell them apart; before that, at most two.
        iterations: generations of the cross-entropy method; 0 for none.
        population: mixtures of a generation.
        elite: share of them that the next generation is drawn from.
        spread: standard deviation of the first generation.
        highest: bound of a weight; the lowest is 0.
        scales: weights besides 1 at which the best expert is tried alone.
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
    kept: Annotated[float, Field(ge=0, lt=1), needs("a number in [0, 1)")] = 0.4
    samples: CountOrZero = 6
    iterations: CountOrZero = 1
    population: Annotated[Whole, Field(ge=2), needs("a whole number of at least 2")] = 8
    elite: Share = 0.3
    spread: Positive = 0.4
    highest: Positive = 1.5
    scales: tuple[Positive, ...] = (0.5, 1.5)
    climb: CountOrZero = 8
    per_layer: StrictBool = False
    max_evaluations: Count = 200
    max_seconds: Positive | None = None
    max_tokens: Count | None = None
    rows: Count = 64
    seed: CountOrZero = 0


@dataclass(frozen=True, slots=True)
class Finalist:
    """What was compared at the end, and what spoke for it.

    Attributes:
        trial: its `Trial` on all examples.
        kept: its score on examples that it was not chosen by. Of a mixture or an expert at another
            weight than 1: those that were kept out of the search (-inf where there were none). Of
            an expert alone: all, each by the expert that is the best on the others.
        against: the best score of simpler finalists on those examples; -inf for the base model.
        clear: of a mixture or an expert at another weight than 1: whether it is better than each
            simpler finalist, over all examples, by more than two standard errors of the difference.
            True of the base model and an expert alone.
    """

    trial: Trial
    kept: float
    against: float
    clear: bool = True


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        mixture: what to use; the base model's is empty.
        score: its mean score on all examples (`Trial.score`); -1 where nothing was tried.
        finalists: the base model, the best expert alone and the best of what was searched for,
            where that seemed as good. ``mixture`` is the last of them that is clearly better than
            all simpler ones, and better on the examples that it was not chosen by.
        kept: how many examples were kept out of the search for mixtures.
        signal: False where no reply of any mixture earned more than another, or more than 0: the
            examples then tell nothing, and ``mixture`` is the base model.
        tried: every mixture that was tried, in its order, on some or all of the examples.
        generated: how many replies were generated.
        history: after each phase ("first", "second", "gradient", "generation 1", ...),
            how many mixtures had been tried and the best score on what the phase was judged by.
        seconds: how long it took.
        complete: False where the search was cancelled or ran out of time.
    """

    mixture: Mixture
    score: float
    finalists: tuple[Finalist, ...]
    kept: int
    signal: bool
    tried: tuple[Trial, ...]
    generated: int
    history: tuple[tuple[str, int, float], ...]
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
    """Find a mixture that does better on the examples than the base model and any expert alone.

    Where there is none, the best of these; see `SearchResult`. Same arguments, same result, unless
    time ran out. Mixtures are searched for only where no expert alone gets all that a reward can
    give. Cancelled before anything was tried, it gives the base model. Where the examples tell
    nothing, it warns with `NoSignalWarning`.

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
    with progress_bar(f"adapting to {shots.name}", None, progress) as bar:
        finalists = run.go(starts, bar)
    signal = bool(stop) or not run.trials.alike
    if not signal:
        warnings.warn(
            f"no reply to the {len(shots)} example(s) of {shots.name} earned more than another, "
            "with any expert: they tell nothing, so the base model is used. Check the answers "
            "against what the model replies, or give a reward that finds them there",
            NoSignalWarning,
            stacklevel=2,
        )
    best = best_finalist(finalists)
    return SearchResult(
        best.trial.mixture if best else Mixture(),
        best.trial.score if best else -1.0,
        finalists,
        len(run.kept),
        signal,
        tuple(run.trials),
        run.trials.generated,
        tuple(run.history),
        time.perf_counter() - begun,
        not stop,
    )


def best_finalist(finalists: Sequence[Finalist]) -> Finalist | None:
    """The one to use of these, the simplest first, as `SearchResult` says."""
    best = None
    for one in finalists:
        unknown = one.kept == -math.inf
        if best is None or (one.clear and (unknown or one.kept > one.against)):
            best = one
    return best


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
        self.trials = Trials(model, shots, rows=options.rows, seed=options.seed, stop=stop)
        self.history: list[tuple[str, int, float]] = []
        self.random = np.random.default_rng(options.seed)
        rows = self.random.permutation(len(shots)).tolist()
        kept = min(len(rows) - 1, round(options.kept * len(rows)))
        self.seen, self.kept = rows[kept:], rows[:kept]
        self.rows = [*self.seen, *self.kept]

    def go(self, starts: Sequence[Mixture], bar: Bar) -> tuple[Finalist, ...]:
        """Try what is simple, then what is mixed, and compare the best of each.

        The base model first; nothing where the search was stopped before that.
        """
        names = self.space.names
        base, singles = Mixture(), [Mixture({name: 1.0}) for name in names]
        uniform = self.space.mixture(np.full((1, len(names)), 1 / len(names)))
        mixed = [m for m in (uniform, *starts) if m != base and m not in singles]
        tried = self._halve("first", [base, *singles, *mixed], self.rows, bar)
        alone = self.trials.best([m for m in tried if m in singles], self.rows)
        mixed = [m for m in tried if m in mixed]
        if alone and not self._done(tried, self.rows) and not self.trials.alike:
            mixed += self._mix([base, *alone], bar)
        return self._compare([base, *alone], mixed, bar)

    def _mix(self, simple: Sequence[Mixture], bar: Bar) -> list[Mixture]:
        """What was searched for on the examples that are seen: the best expert at other weights and
        mixed with another, and from there on."""
        (name,) = simple[1].weights
        scaled = [Mixture({name: scale}) for scale in self.options.scales]
        pairs = [
            Mixture({name: _PAIRED, other: _PAIRED}) for other in self.space.names if other != name
        ]
        found = self._halve("second", [*scaled, *pairs], self.seen, bar)
        found = self._refine("", simple, found, bar)
        if self.options.per_layer:
            self.space = Space.by_layer(self.space.names, list(self.model.shapes))
            found = self._refine(" by layer", simple, found, bar)
        return found

    def _refine(
        self, suffix: str, simple: Sequence[Mixture], found: list[Mixture], bar: Bar
    ) -> list[Mixture]:
        """From a mixture that is better than what is simple, climb the gradient and run the
        generations; with weights by layer, from the best in any case."""
        options, bounds = self.options, (_LOW, self.options.highest)

        def best() -> Mixture:
            return self.trials.best([*simple, *found], self.seen)[0]

        if not found or (best() in simple and not suffix):
            return found
        targets = self.trials.targets(self.trials.best([*simple, *found], self.seen), self.seen)
        if options.climb and targets and not self.stop:
            top = climb(
                self.model,
                self.space,
                self.space.weights(best()).clip(*bounds),
                targets,
                bounds=bounds,
                steps=options.climb,
                stop=lambda: bool(self.stop),
            )
            found += self._halve(f"gradient{suffix}", [self.space.mixture(top)], self.seen, bar)
        mean = self.space.weights(best()).clip(*bounds)
        deviation = np.full_like(mean, options.spread)
        for number in range(1, options.iterations + 1):
            if self._done([best()], self.seen):
                break
            drawn = [mean, *self._draw(mean, deviation, options.population - 1)]
            weights = {self.space.mixture(one): one for one in drawn}
            found += self._halve(f"generation {number}{suffix}", list(weights), self.seen, bar)
            weights[best()] = self.space.weights(best())
            known = self.trials.best([m for m in weights if m in [*simple, *found]], self.seen)
            elite = [weights[m] for m in known[: max(2, round(options.elite * len(weights)))]]
            mean, deviation = np.mean(elite, axis=0), np.std(elite, axis=0) + _FLOOR
        return found

    def _halve(
        self, phase: str, mixtures: Sequence[Mixture], rows: Sequence[int], bar: Bar
    ) -> list[Mixture]:
        """Try mixtures that were not yet: all on a few examples, the better half on all rows.

        The base model is always of that half, and so are all that equal the last of it.
        """
        new = [m for m in dict.fromkeys(mixtures) if m not in self.trials]
        new = new[: max(0, self.options.max_evaluations - len(self.trials))]
        few = rows[: math.ceil(_FEW * len(self.rows))]
        samples = min(_ROUGHLY, self.options.samples)
        tried = self.trials.run(new, few, samples, bar)
        scores = {mixture: self.trials.score(mixture, few) for mixture in tried}
        half = sorted(scores.values(), reverse=True)[: math.ceil(len(tried) / 2)]
        tried = [m for m in tried if scores[m] >= half[-1] or m == Mixture()]
        tried = self.trials.run(tried, rows, samples, bar)
        if tried:
            score = max(self.trials.score(mixture, rows) for mixture in tried)
            self.history.append((phase, len(self.trials), score))
        return tried

    def _done(self, mixtures: Sequence[Mixture], rows: Sequence[int]) -> bool:
        """Whether one gets all but all that a reward can give, or there is to be an end."""
        if self.stop or len(self.trials) >= self.options.max_evaluations:
            return True
        return any(self.trials.score(mixture, rows) >= _ENOUGH for mixture in mixtures)

    def _compare(
        self, simple: Sequence[Mixture], mixed: Sequence[Mixture], bar: Bar
    ) -> tuple[Finalist, ...]:
        """The base model, the best expert alone and the best mixture, more closely."""
        base, *alone = simple
        if base not in self.trials:
            return ()
        least = self.trials.score(self.trials.best(simple, self.seen)[0], self.seen)
        mixed = self.trials.best(mixed, self.seen)
        mixed = [m for m in mixed if self.trials.score(m, self.seen) >= least - _NEAR]
        near = mixed[:1]
        closer, ready = [base, *alone[:_CLOSER], *near], [base]
        for samples in dict.fromkeys((min(_SOON, self.options.samples), self.options.samples)):
            ready += [m for m in self.trials.run(closer, self.rows, samples, bar) if m not in ready]
            most = max(self.trials.score(m, self.rows) for m in ready)
            closer = [m for m in ready if most - self.trials.score(m, self.rows) <= _CLEAR]
            if len(closer) < 2:
                break
        alone = [m for m in ready if m in alone]
        finalists = [Finalist(self.trials[base], self.trials[base].score, -math.inf)]
        if alone:
            best = self.trials.best(alone, self.rows)[0]
            finalists.append(Finalist(self.trials[best], self._crossed(alone), finalists[0].kept))
        for mixture in (m for m in near if m in ready):
            simpler = max(self.trials.score(one.trial.mixture, self.kept) for one in finalists)
            kept = self.trials.score(mixture, self.kept)
            clear = all(self._clearly(mixture, one.trial.mixture) for one in finalists)
            finalists.append(Finalist(self.trials[mixture], kept, simpler, clear))
        return tuple(finalists)

    def _crossed(self, alone: Sequence[Mixture]) -> float:
        """The mean score on each example of the one that is best on the others."""
        scores = []
        for row in self.rows:
            others = [other for other in self.rows if other != row] or [row]
            scores.append(self.trials.score(self.trials.best(alone, others)[0], [row]))
        return sum(scores) / len(scores)

    def _clearly(self, mixture: Mixture, other: Mixture) -> bool:
        """Whether it is better by so many standard errors; one example has none to tell."""
        ours, theirs = (self.trials.scores(m, self.rows) for m in (mixture, other))
        gains = np.subtract(ours, theirs)
        if len(gains) < 2:
            return False
        return bool(gains.mean() > _ERRORS * gains.std(ddof=1) / math.sqrt(len(gains)))

    def _draw(self, mean: Weights, deviation: Weights, count: int) -> Weights:
        """Normal draws truncated to the bounds, (count, rows, experts)."""
        from scipy.special import ndtr, ndtri

        low, high = ((bound - mean) / deviation for bound in (_LOW, self.options.highest))
        share = self.random.uniform(ndtr(low), ndtr(high), (count, *mean.shape))
        drawn = mean + deviation * ndtri(share)
        return np.asarray(drawn.clip(_LOW, self.options.highest))
