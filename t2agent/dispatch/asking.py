"""Dispatch by asking which expert a request is for: what all who can answer that have in common.

Who is asked, `AskingDispatcher._odds` knows: the base model, one with an expert for the question
(`t2agent.dispatch.prompt`), or a decision model (`t2agent.dispatch.decision`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.dispatcher import CLASSIFIER, OTHERS, Decision, Request
from t2agent.dispatch.embedding import EmbeddingDispatcher
from t2agent.dispatch.labels import Experts, choosable
from t2agent.dispatch.tool_offers import offer
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard, Step
from t2agent.experts.mixture import Mixture


class AskingDispatcher(ABC):
    """Asks for a probability of each expert and of none; the most probable expert answers.

    All experts may be chosen but the classifier expert, one that is named "others", and, for
    requests without an image, those of modality "image".

    Where an expert's card names a ``step`` of a conversation, the experts of the request's step are
    those to choose among, as `EmbeddingDispatcher` tells it; the question is asked where they are
    several, or the step is "text", and may be answered by none there alone.

    Args:
        experts: those to choose among; None where they are still to be given.
        threshold: the base model answers where the probability that some expert is meant is below
            it; None: where none is more probable than each expert.
    """

    strategy: ClassVar[str]

    def __init__(self, experts: Experts | None, threshold: float | None = None) -> None:
        self._experts = experts
        self._threshold = threshold
        self._steps = EmbeddingDispatcher(experts)

    @property
    def version(self) -> str:
        """Changes with whatever changes a decision, besides the registry; for caches."""
        return f"2 {self._steps.version}"

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide on each request. ``scores`` has a probability for each expert that could have
        been chosen; what they lack to 1 is that of none."""
        started = time.perf_counter()
        alike: dict[tuple[bool, Step], list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault((bool(request.images), self._step(request)), []).append(i)
        decided: dict[int, Decision] = {}
        for (seeing, step), rows in alike.items():
            cards = self._of_step(seeing, step)
            free = step == "text"  # none may be the answer
            if not cards:
                decided |= {i: Decision(Mixture(), self.strategy, {}, False) for i in rows}
                continue
            names = sorted(cards)
            if len(names) == 1 and not free:
                only = {names[0]: 1.0}
                decided |= {i: Decision(Mixture(only), self.strategy, only) for i in rows}
                continue
            odds = self._odds([requests[i] for i in rows], {name: cards[name] for name in names})
            for i, row in zip(rows, odds, strict=True):
                decided[i] = self._decision(requests[i], names, row, free)
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [replace(decided[i], seconds=seconds) for i in range(len(requests))]

    @abstractmethod
    def _odds(
        self, requests: Sequence[Request], cards: dict[str, ExpertCard]
    ) -> NDArray[np.float64]:
        """Probabilities of the cards' names and of none, (requests, names + 1)."""

    def _decision(
        self, request: Request, names: Sequence[str], odds: NDArray[np.float64], free: bool
    ) -> Decision:
        scores = dict(zip(names, map(float, odds), strict=False))
        best = int(odds[:-1].argmax())
        gate = 1.0 - float(odds[-1])
        asked = free and self._threshold is not None
        if asked:
            fits = gate >= (self._threshold or 0.0)
        else:
            fits = not free or bool(odds[best] >= odds[-1])
        scope = fits and (not free or bool(request.text.strip()))
        return Decision(
            Mixture({names[best]: 1.0}) if scope else Mixture(),
            self.strategy,
            scores,
            scope,
            gate=gate if asked else None,
            threshold=self._threshold if asked else None,
        )

    def _never(self) -> frozenset[str]:
        """Experts that no request goes to."""
        return frozenset({CLASSIFIER, OTHERS})

    def _step(self, request: Request) -> Step:
        """The step at which a request stands; that of text where no expert is for another one."""
        there = {card.step for card in self._cards(bool(request.images)).values()}
        step = self._steps.step(request) if there - {"text"} else "text"
        return step if step in there else "text"

    def _of_step(self, seeing: bool, step: Step) -> dict[str, ExpertCard]:
        return {name: card for name, card in self._cards(seeing).items() if card.step == step}

    def _cards(self, seeing: bool) -> dict[str, ExpertCard]:
        """The cards of the experts that a request may go to, by name."""
        if self._experts is None:
            raise ConfigError(
                f"a {type(self).__name__} was asked to dispatch without experts to choose among: "
                "give them, such as a model's registry, or give it to a ChatT2"
            )
        cards = choosable(self._experts, None if seeing else "text")
        return {name: card for name, card in cards.items() if name not in self._never()}


def with_offer(request: Request) -> Request:
    """The request with the tools before its text, as experts' example requests have them."""
    return replace(request, text=offer(request.tools) + request.text)
