"""Which requests want one of the tools on offer, and which want another after those called so far.

The first is learned from the examples of experts for tools, the second is read off the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2agent.dispatch.dispatcher import Request
from t2agent.dispatch.encoder import Vectors
from t2agent.dispatch.fitting import Fitted
from t2agent.dispatch.pieces import Piece, asks, pieces
from t2agent.dispatch.tool_offers import ToolSimilarity, without_offer
from t2agent.replies.tool_fit import Part, ToolFit, another_value

# Cosines of a request with the tool that is closest to it. Small talk stayed below the first, most
# requests for tools above. Questions that experts answer without tools stayed below the second.
_FITS = 0.2
_MEANT = 0.35
_LIKELY = 0.05  # probability of the experts for tools from which they may be meant
_CLEARLY = -1.0  # log odds, beyond the cut, of a request that is not for the experts for tools
_SLACK = 0.05  # how much less like their examples a request may be than to be in scope

_PART_WORDS = 3
_ENDS = 12  # parts at either end of a long request
_PARTS = re.compile(
    r"(?<=[.!?;])\s+|,?\s+\b(?:and|then|also|after that|afterwards)\b\s+", re.IGNORECASE
)


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

    def wanting(self, request: Request) -> Piece | None:
        """What of a request wants one of the tools that it offers; None where nothing does."""
        for piece in pieces(request.text) if request.tools else ():
            for text in piece.lengths:
                if self._wanted(text, request.tools):
                    return Piece((text,), piece.asks, piece.of_material)
        return None

    def _wanted(self, text: str, tools: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a text wants one of the tools.

        It does where the question is like those that experts for tools have learned, or close to
        what one of the tools does.
        """
        if not text.strip():
            return False
        closest = max(self.similarity.of(text, tools))
        asked = self.asked
        vectors = self.similarity.request_vector(text)[None]
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


def goes_on(request: Request, similarity: ToolSimilarity) -> bool:
    """Whether a request wants another call after those that were made."""
    names = [str(tool["function"]["name"]) for tool in request.tools]
    made = {str(call["name"]) for call in request.called}
    called = {place for place, name in enumerate(names) if name in made}
    passed = " ".join(str(call.get("arguments", "")) for call in request.called)
    # What the text alone tells is not encoded.
    if not called or len(called) == len(names):
        return bool(called) and another_value(request.text, passed)
    return tool_fit(request.text, request.tools, similarity).goes_on(called, passed)


def tool_fit(text: str, tools: Sequence[Mapping[str, Any]], similarity: ToolSimilarity) -> ToolFit:
    """How well tools fit a request and its parts: its sentences, cut at "and" and "then". Of very
    many, the first and the last; what is too short to ask is none."""

    def fits(one: str) -> tuple[float, ...]:
        return tuple(similarity.of(one, tools))

    parts = [part for part in _PARTS.split(text) if len(part.split()) >= _PART_WORDS] or [text]
    if len(parts) > 2 * _ENDS:
        parts = [*parts[:_ENDS], *parts[-_ENDS:]]
    return ToolFit(text, fits(text), tuple(Part(one, asks(one), fits(one)) for one in parts))
