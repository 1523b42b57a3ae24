"""Which requests want one of the tools on offer, learned from examples that offer tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t2agent.dispatch.dispatcher import Request
from t2agent.dispatch.encoder import Vectors
from t2agent.dispatch.fitting import Fitted
from t2agent.dispatch.tool_offers import ToolSimilarity, without_offer

# Cosines of a request with the tool that is closest to it. Small talk stayed below the first, most
# requests for tools above. Questions that experts answer without tools stayed below the second.
_FITS = 0.2
_MEANT = 0.35
_LIKELY = 0.05  # probability of the experts for tools from which they may be meant
_CLEARLY = -1.0  # log odds, beyond the cut, of a request that is not for the experts for tools
_SLACK = 0.05  # how much less like their examples a request may be than to be in scope


@dataclass(frozen=True, slots=True, eq=False)
class ToolRequests:
    """What was learned of requests for tools, for one modality.

    Attributes:
        asked: fitted to what the examples ask, without the tools that they offer.
        calling: the labels whose examples offer tools.
        similarity: how well tools fit requests.
    """

    asked: Fitted
    calling: frozenset[str]
    similarity: ToolSimilarity

    @classmethod
    def learned(
        cls,
        examples: Mapping[str, Sequence[str]],
        calling: frozenset[str],
        similarity: ToolSimilarity,
        fit: Callable[[Mapping[str, Sequence[str]]], Fitted | None],
    ) -> ToolRequests:
        """From the examples of each label, at least one of which is for calling tools."""
        asked = fit({k: tuple(dict.fromkeys(map(without_offer, v))) for k, v in examples.items()})
        assert asked is not None  # there are labels
        return cls(asked, calling, similarity)

    def wanted(self, request: Request) -> bool:
        """Whether a request wants one of the tools that it offers.

        It does where the question is like those that experts for tools have learned, or close to
        what one of the tools does.
        """
        if not request.text.strip() or not request.tools:
            return False
        closest = max(self.similarity.of(request.text, request.tools))
        asked = self.asked
        vectors = self.similarity.request_vector(request.text)[None]
        logits = asked.classifier.logits(vectors)
        odds = dict(zip(asked.labels, asked.classifier.probabilities(logits)[0], strict=True))
        likely = sum(odds[label] for label in self.calling) >= _LIKELY
        like = asked.gate.scope(vectors, logits)[0] >= asked.gate.threshold - _SLACK
        wanted = bool(closest >= _MEANT or (likely and (like or closest >= _FITS)))
        return wanted and (closest == 1.0 or not self._far(vectors))

    def _far(self, vectors: Vectors) -> bool:
        """Whether a request is one that the experts for tools are clearly not for."""
        labels = [k for k, label in enumerate(self.asked.labels) if label in self.calling]
        margins = self.asked.near.margin(np.repeat(vectors, len(labels), axis=0), np.array(labels))
        return bool(margins.max() < _CLEARLY)
