"""Trying mixtures on a few examples, many of them in one batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch

from t2agent.dispatch.few_shot.shots import Shots
from t2agent.experts.mixture import Mixture
from t2agent.models.calls import judged_marks, readable, wanted_tokens
from t2agent.models.generate import Generation, generate
from t2agent.models.likelihood import log_likelihoods, rows_per_pass
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.progress import Bar

Pair = tuple[Mixture, int]  # and the number of an example
Reply = tuple[Mixture, int, int]  # of a pair: 0 is the greedy one, then come the samples
Judged = tuple[float, Generation]  # the reward of a reply

_TEMPERATURE = 0.5  # of samples


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of a mixture.

    Attributes:
        mixture: the mixture.
        score: over its ``examples``, the mean reward: half the greedy reply's, half the mean of
            sampled ones, where there are any. Ten greedy replies leave many a mixture equal; what
            it would also have replied tells more.
        reward: the mean reward of the greedy replies alone.
        examples: how many it was tried on.
    """

    mixture: Mixture
    score: float
    reward: float
    examples: int


class Stop:
    """Whether a search is to end: it was cancelled, or its time is over."""

    def __init__(self, cancel: threading.Event | None, seconds: float | None) -> None:
        self.cancel = threading.Event() if cancel is None else cancel
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def __bool__(self) -> bool:
        return self.cancel.is_set() or time.monotonic() >= self._end


class Trials:
    """The replies of the mixtures that were tried, in their order; none is generated twice.

    ``generated`` counts them. Samples have the same random numbers for every mixture, so that a
    difference is one of the mixtures. They are drawn at a temperature of .5: at 1 their rewards
    tell how many ways of replying a mixture knows rather than how often its greedy reply is right.
    """

    def __init__(
        self, model: T2Model, shots: Shots, *, rows: int, seed: int = 0, stop: Stop
    ) -> None:
        self._model, self._shots, self._rows, self._stop = model, shots, rows, stop
        self._seed = seed
        self._prompts = shots.prompts()
        self._replies: dict[Mixture, dict[tuple[int, int], Judged]] = {}
        self._likelihoods: dict[tuple[Mixture, int], float] = {}

    def __len__(self) -> int:
        return len(self._replies)

    def __contains__(self, mixture: object) -> bool:
        return mixture in self._replies

    def __iter__(self) -> Iterator[Trial]:
        return map(self.__getitem__, self._replies)

    def __getitem__(self, mixture: Mixture) -> Trial:
        rows = sorted({row for row, _ in self._replies[mixture]})
        return Trial(mixture, self.score(mixture, rows), self.reward(mixture, rows), len(rows))

    @property
    def generated(self) -> int:
        """How many replies were generated."""
        return sum(map(len, self._replies.values()))

    def reward(self, mixture: Mixture, rows: Iterable[int]) -> float:
        """As of `Trial`, on some of the examples that a mixture was tried on."""
        return _mean([self._replies[mixture][row, 0][0] for row in rows])

    def score(self, mixture: Mixture, rows: Iterable[int]) -> float:
        """As of `Trial`, on some of the examples that a mixture was tried on."""
        return _mean(self.scores(mixture, rows))

    def scores(self, mixture: Mixture, rows: Iterable[int]) -> list[float]:
        """The score on each of some examples that a mixture was tried on."""
        sampled: dict[int, list[float]] = {}
        for (row, draw), (reward, _) in self._replies[mixture].items():
            if draw:
                sampled.setdefault(row, []).append(reward)
        greedy = [(row, self._replies[mixture][row, 0][0]) for row in rows]
        return [(one + _mean(sampled.get(row, [one]))) / 2 for row, one in greedy]

    def run(
        self, mixtures: Iterable[Mixture], rows: Iterable[int], samples: int, bar: Bar
    ) -> list[Mixture]:
        """Answer examples greedily and with so many samples, where that was not done yet.

        The mixtures whose replies are all there. Those that were not finished when the search had
        to stop are as they were before.
        """
        mixtures, rows = list(dict.fromkeys(mixtures)), list(rows)
        found: dict[Reply, Judged] = {}
        new: dict[tuple[int, ...], list[Pair]] = {}  # by the replies that are missing
        for mixture in mixtures:
            known = self._known(mixture)
            for row in rows:
                missing = [draw for draw in range(samples + 1) if (row, draw) not in known]
                if 0 in missing:
                    new.setdefault((0,), []).append((mixture, row))
                if drawn := tuple(draw for draw in missing if draw):
                    new.setdefault(drawn, []).append((mixture, row))
        for draws, pairs in new.items():
            for part in self._batches(pairs, max(1, self._rows // len(draws))):
                if not self._stop:
                    found |= self._answer(part, draws)
                    bar.advance(len(part) * len(draws))
        wanted = [(row, draw) for row in rows for draw in range(samples + 1)]
        finished = []
        for mixture in mixtures:
            known = self._known(mixture)
            more = {key: found.get((mixture, *key)) for key in wanted if key not in known}
            done = {key: judged for key, judged in more.items() if judged is not None}
            if len(done) == len(more):
                self._replies[mixture] = known | done
                finished.append(mixture)
        return finished

    def best(self, mixtures: Iterable[Mixture], rows: Sequence[int]) -> list[Mixture]:
        """From the best score on these examples to the worst.

        Among equals, the likelihood of the whole replies that are wanted decides (paper, sec. 3.3);
        where one is not known, the mean probability of the mixture's own greedy replies that were
        rewarded; then the order given.
        """
        mixtures = list(mixtures)
        scores = {mixture: round(self.score(mixture, rows), 9) for mixture in mixtures}
        values = list(scores.values())
        tied = [m for m in mixtures if values.count(scores[m]) > 1]
        likelihood = self._likelihood(tied, rows)
        return sorted(mixtures, key=lambda m: (-scores[m], -likelihood.get(m, 0.0)))

    def targets(
        self, mixtures: Sequence[Mixture], rows: Iterable[int]
    ) -> list[tuple[Prompt, tuple[int, ...]]]:
        """Each example with the tokens of a whole reply that is wanted.

        The one that the examples tell, else the one with the highest reward of these mixtures,
        the first of equals, where that is above 0. Examples without either are left out.
        """
        found = []
        for row in rows:
            known = self._shots.reference(row)
            example = self._shots.examples[row]
            if known or example.calls:
                tokens = wanted_tokens(self._model, example, known)
            else:
                tokens = self._rewarded(mixtures, row)
            if tokens:
                found.append((self._prompts[row], tokens[: self._shots.max_tokens]))
        return found

    @property
    def alike(self) -> bool:
        """Whether no reply earned more than another, or more than 0."""
        rewards = {reward for one in self._replies.values() for reward, _ in one.values()}
        return len(rewards) <= 1 and max(rewards, default=0.0) <= 0

    def _known(self, mixture: Mixture) -> dict[tuple[int, int], Judged]:
        return self._replies.get(mixture, {})

    def _answer(self, part: Sequence[Pair], draws: Sequence[int]) -> dict[Reply, Judged]:
        """Each reply with its reward; nothing where the search was cancelled meanwhile."""
        options = GenerationOptions(
            max_tokens=self._shots.max_tokens,
            temperature=_TEMPERATURE if draws[0] else 0.0,
            seed=self._seed + draws[0],
        )
        prompts = [self._prompts[row] for _, row in part]
        with self._adapted([mixture for mixture, _ in part for _ in draws]):
            found = generate(
                self._model,
                prompts,
                options,
                samples=len(draws),
                cancel=self._stop.cancel,
                keep=judged_marks(self._model, self._shots.examples),
                alike=True,
            )
        if self._stop.cancel.is_set():
            return {}
        replies = [(*pair, draw) for pair in part for draw in draws]
        rows = [row for _, row, _ in replies]
        examples = [self._shots.examples[row] for row in rows]
        texts = list(map(partial(readable, self._model), examples, [one.text for one in found]))
        rewards = self._shots.scores(texts, rows)
        return dict(zip(replies, zip(rewards, found, strict=True), strict=True))

    def _rewarded(self, mixtures: Sequence[Mixture], row: int) -> tuple[int, ...]:
        mine = [self._replies[m][row, 0] for m in mixtures if (row, 0) in self._known(m)]
        reward, reply = max(mine, key=lambda judged: judged[0], default=(0.0, None))
        return reply.token_ids if reply is not None and reward > 0 else ()

    def _likelihood(self, mixtures: Sequence[Mixture], rows: Sequence[int]) -> dict[Mixture, float]:
        """How likely right replies to these examples are, as in `best`."""
        missing = [(m, row) for m in mixtures for row in rows if (m, row) not in self._likelihoods]
        self._likelihoods |= dict.fromkeys(missing, -math.inf)
        targets = {pair: found for pair in missing for found in self.targets(pair[:1], pair[1:])}
        longest = max((len(tokens) for _, tokens in targets.values()), default=0)
        # Without regard to the prompts' lengths: `rows` has proven to fit.
        size = min(self._rows, rows_per_pass(self._model, 0, longest)) if targets else 1
        for part in self._batches(list(targets), size):
            prompts = [targets[pair][0] for pair in part]
            completions = [(place, targets[pair][1]) for place, pair in enumerate(part)]
            with torch.no_grad(), self._adapted([mixture for mixture, _ in part]):
                found = log_likelihoods(self._model, prompts, completions).tolist()
            for pair, value in zip(part, found, strict=True):
                self._likelihoods[pair] = value if math.isfinite(value) else -math.inf
        scale = float if all(map(self._shots.reference, rows)) else math.exp
        return {m: _mean([scale(self._likelihoods[m, row]) for row in rows]) for m in mixtures}

    def _batches(self, pairs: Sequence[Pair], rows: int) -> Iterator[list[Pair]]:
        """At most so many rows; of one mixture, where the model cannot tell rows apart."""
        part: list[Pair] = []
        for pair in pairs:
            apart = bool(part) and not self._model.per_row and part[-1][0] != pair[0]
            if len(part) == rows or apart:
                yield part
                part = []
            part.append(pair)
        if part:
            yield part

    def _adapted(self, mixtures: Sequence[Mixture]) -> AbstractContextManager[T2Model]:
        if len(set(mixtures)) == 1:
            return self._model.adapted(mixtures[0])
        return self._model.adapted(list(mixtures))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else -math.inf
