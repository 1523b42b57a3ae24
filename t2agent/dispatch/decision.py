"""Dispatch by somebody's decision model: which expert is a request for?

A decision model answers typed questions with a probability for each option, from one pass
(langchain-core's `BaseDecisionModel`, 1.8 and newer; t2agent's own is `t2agent.T2DecisionModel`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.asking import AskingDispatcher, with_offer
from t2agent.dispatch.dispatcher import Decision, Request
from t2agent.dispatch.labels import Experts, in_words
from t2agent.dispatch.strategies import version_of
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.models.options import Share, check_option

NONE = "none of these"
"""The option for requests that no expert is meant for."""
_QUESTION = "expert"
_INSTRUCTIONS = "Which kind of help does this request need?"


class DecisionDispatcher(AskingDispatcher):
    """Asks a decision model which expert a request is for.

        ChatT2(dispatch=DecisionDispatcher(T2DecisionModel()))

    The options of its choice question are the experts, told by the descriptions of their cards,
    and "none of these". The base model answers where the probability of an expert, whichever, is
    below ``threshold``; else the most probable expert does. Which experts may be chosen,
    `AskingDispatcher` says. The decision model sees no images, only that there are some.

    Args:
        decision_model: any `BaseDecisionModel` of langchain-core.
        experts: those to choose among; None for those of the ChatT2 that it is given to.
        threshold: in (0, 1].

    Raises:
        ConfigError: what was given answers no questions, or the threshold is out of range.
    """

    strategy = "decision"

    def __init__(
        self, decision_model: Any, experts: Experts | None = None, *, threshold: float = 0.5
    ) -> None:
        check_option("threshold", threshold, Share)
        if not callable(getattr(decision_model, "batch", None)):
            raise ConfigError(
                f"a {type(decision_model).__name__} was given as the decision model: give a "
                "BaseDecisionModel of langchain_core.decisions, such as t2agent.T2DecisionModel()"
            )
        super().__init__(experts, threshold)
        self._decides = decision_model

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._decides).__name__})"

    @property
    def version(self) -> str:
        """As of `AskingDispatcher`; a decision model without a ``version`` equals itself alone."""
        return f"{super().version} {self._threshold} {version_of(self._decides)}"

    def among(self, experts: Experts) -> DecisionDispatcher:
        """This dispatcher for these experts; itself where it has its own."""
        if self._experts is not None:
            return self
        return DecisionDispatcher(self._decides, experts, threshold=self._threshold or 0.0)

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """As of `AskingDispatcher`.

        Raises:
            ConfigError: there are no experts to choose among, langchain-core is too old, or the
                decision model gives no probability for an option. What the decision model itself
                raises is passed on.
        """
        return super().dispatch(requests)

    def _odds(
        self, requests: Sequence[Request], cards: dict[str, ExpertCard]
    ) -> NDArray[np.float64]:
        options = [*cards, NONE]
        question = _choice(
            {name: card.description or in_words(name) for name, card in cards.items()}
        )
        asked = [{"state": _state(one), "questions": {_QUESTION: question}} for one in requests]
        found = [self._probabilities(one, options) for one in self._decides.batch(asked)]
        return np.array(found, dtype=np.float64).reshape(len(requests), len(options))

    def _probabilities(self, response: Any, options: Sequence[str]) -> list[float]:
        answer = response.answers.get(_QUESTION)
        told = getattr(answer, "probabilities", None) or {}
        found = [float(told.get(name, math.nan)) for name in options]
        total = sum(found)
        if not (math.isfinite(total) and total > 0 and min(found) >= 0):
            raise ConfigError(
                f"{type(self._decides).__name__} answered a choice among {', '.join(options)} "
                f"with {told!r:.200}: needed a probability for each; ask another decision model"
            )
        return [one / total for one in found]


def _choice(criteria: dict[str, str]) -> Any:
    try:
        from langchain_core.decisions import Choice
    except ImportError as error:
        raise ConfigError(
            "a decision model needs langchain-core 1.8 or newer: pip install -U langchain-core"
        ) from error
    return Choice(instructions=_INSTRUCTIONS, criteria={**criteria, NONE: "Any other request."})


def _state(request: Request) -> str:
    kind = "Request with an image" if request.images else "Request"
    return f"{kind}: {with_offer(request).text}"
