"""Trying mixtures on a few examples, many of them in one batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from t2agent.dispatch.few_shot.shots import Shots
from t2agent.experts.mixture import Mixture
from t2agent.models.generate import Generation, generate
from t2agent.models.likelihood import answer_tokens, log_likelihoods, rows_per_pass
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.progress import Bar

Pair = tuple[Mixture, int]  # and the number of an example
Judged = tuple[float, Generation]  # the reward of a reply


@dataclass(frozen=True, slots=True)
class Trial:
    """A mixture with the mean reward of its greedy replies to the examples, and the mean
    log-likelihood of the references, which decides among equal rewards (paper, sec. 3.3)."""

    mixture: Mixture
    reward: float
    likelihood: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better."""
        return self.reward, self.likelihood


class Stop:
    """Whether a search is to end: it was cancelled, or its time is over."""

    def __init__(self, cancel: threading.Event | None, seconds: float | None) -> None:
        self.cancel = threading.Event() if cancel is None else cancel
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def __bool__(self) -> bool:
        return self.cancel.is_set() or time.monotonic() >= self._end


class Trials:
    """What has been tried, in its order; a mixture is tried once.

    The references are, for each example: the one that `Shots.reference` knows, else the best
    reply of the first mixtures that earned a reward above 0, else the bare answer. They are the
    same for all mixtures. A mixture that was not tried on all examples when the search had to
    stop does not count.
    """

    def __init__(self, model: T2Model, shots: Shots, *, rows: int, stop: Stop) -> None:
        self._model, self._shots, self._rows, self._stop = model, shots, rows, stop
        self._prompts = shots.prompts()
        self._references: list[tuple[int, ...]] | None = None
        self._done: dict[Mixture, Trial] = {}

    def __len__(self) -> int:
        return len(self._done)

    def __contains__(self, mixture: object) -> bool:
        return mixture in self._done

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._done.values())

    def __getitem__(self, mixture: Mixture) -> Trial:
        return self._done[mixture]

    @property
    def best(self) -> Trial | None:
        """The best so far; of equals, the first."""
        return max(self, key=lambda trial: trial.rank, default=None)

    @property
    def targets(self) -> list[tuple[Prompt, tuple[int, ...]]]:
        """Each example with the tokens of its reference, once the first mixtures were tried."""
        return list(zip(self._prompts, self._references or (), strict=False))

    def run(self, mixtures: Sequence[Mixture], bar: Bar) -> None:
        """Try those that were not yet."""
        new = list(dict.fromkeys(m for m in mixtures if m not in self._done))
        pairs = [(mixture, row) for mixture in new for row in range(len(self._shots))]
        replies: dict[Pair, Judged] = {}
        for part in self._batches(pairs, self._rows):
            if self._stop:
                break
            replies |= self._replies(part)
            best = f"{max(self._means(new, replies).values(), default=-1.0):.2f}"
            bar.advance(len(part) / len(self._shots), reward=best)
        rewards = self._means(new, replies)
        if not rewards:
            return
        if self._references is None:
            self._references = [
                self._reference(row, replies)[: self._shots.max_tokens]
                for row in range(len(self._shots))
            ]
        likelihoods = self._likelihoods(list(rewards), self._references)
        for mixture, reward in rewards.items():
            self._done[mixture] = Trial(mixture, reward, likelihoods[mixture])

    def _replies(self, part: Sequence[Pair]) -> dict[Pair, Judged]:
        """Each reply with its reward; nothing where the search was cancelled meanwhile."""
        options = GenerationOptions(max_tokens=self._shots.max_tokens)
        prompts = [self._prompts[row] for _, row in part]
        with self._adapted(part):
            found = generate(self._model, prompts, options, cancel=self._stop.cancel)
        if self._stop.cancel.is_set():
            return {}
        rewards = self._shots.scores([one.text for one in found], [row for _, row in part])
        return dict(zip(part, zip(rewards, found, strict=True), strict=True))

    def _means(
        self, mixtures: Sequence[Mixture], replies: dict[Pair, Judged]
    ) -> dict[Mixture, float]:
        """The mean rewards of the mixtures that all examples have been answered with."""
        means = {}
        for mixture in mixtures:
            got = [replies.get((mixture, row)) for row in range(len(self._shots))]
            rewards = [reply[0] for reply in got if reply is not None]
            if len(rewards) == len(got):
                means[mixture] = sum(rewards) / len(rewards)
        return means

    def _reference(self, row: int, replies: dict[Pair, Judged]) -> tuple[int, ...]:
        known = self._shots.reference(row)
        if known:
            return answer_tokens(self._model, known)
        mine = [reply for (_, other), reply in replies.items() if other == row]
        reward, reply = max(mine, key=lambda reply: reply[0])
        if reward > 0 and reply.token_ids:
            return reply.token_ids
        return answer_tokens(self._model, self._shots.examples[row].answer)

    def _likelihoods(
        self, mixtures: Sequence[Mixture], references: Sequence[tuple[int, ...]]
    ) -> dict[Mixture, float]:
        pairs = [(mixture, row) for mixture in mixtures for row in range(len(self._shots))]
        # Without regard to the prompts' lengths: `rows` has proven to fit.
        rows = min(self._rows, rows_per_pass(self._model, 0, max(map(len, references))))
        sums = dict.fromkeys(mixtures, 0.0)
        for part in self._batches(pairs, rows):
            prompts = [self._prompts[row] for _, row in part]
            completions = [(place, references[row]) for place, (_, row) in enumerate(part)]
            with torch.no_grad(), self._adapted(part):
                found = log_likelihoods(self._model, prompts, completions).tolist()
            for (mixture, _), value in zip(part, found, strict=True):
                sums[mixture] += value if math.isfinite(value) else -math.inf
        return {mixture: total / len(self._shots) for mixture, total in sums.items()}

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

    def _adapted(self, part: Sequence[Pair]) -> AbstractContextManager[T2Model]:
        mixtures = [mixture for mixture, _ in part]
        if len(set(mixtures)) == 1:
            return self._model.adapted(mixtures[0])
        return self._model.adapted(mixtures)
