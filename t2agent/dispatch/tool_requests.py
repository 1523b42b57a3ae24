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

# Cosines of a request with the tool that is closest to it. Small talk stayed below the first, most
# requests for tools above. Questions that experts answer without tools stayed below the second.
_FITS = 0.2
_MEANT = 0.35
_LIKELY = 0.05  # probability of the experts for tools from which they may be meant
_CLEARLY = -1.0  # log odds, beyond the cut, of a request that is not for the experts for tools
_SLACK = 0.05  # how much less like their examples a request may be than to be in scope

# Chosen on real requests with two to five tools on offer. Of others, .98 of those for several calls
# were seen to want another before the last one and nothing after it, and all for one call nothing.
_ASKED_FOR = 0.35  # cosine of a part of a request with a tool that was not called
_RATHER = 0.12  # how much closer it is than those that were
_PART_WORDS = 3
_PARTS = re.compile(
    r"(?<=[.!?;])\s+|,?\s+\b(?:and|then|also|after that|afterwards)\b\s+", re.IGNORECASE
)
_NAME_OR_NUMBER = r"(?:[A-Z]\w+(?: [A-Z]\w+)*|\d[\w.]*\w|\d)"
_ONE = re.compile(_NAME_OR_NUMBER)
_BESIDE = re.compile(
    rf"(?:, {_NAME_OR_NUMBER})*,? (?:and|or|&|as well as) "
    rf"(?:(?:in|for|to|at|of|from|the) )*{_NAME_OR_NUMBER}"
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
    """Whether a request wants another call after those that were made.

    It does where a part of it (a sentence, or what "and" and "then" set off) is about a tool that
    was not called, and less about those that were: clearly so, or where it asks of what no call
    was passed; and where a value that was passed stands in it beside another one, "Paris and
    Rome", that was not.
    """
    called = {str(call["name"]) for call in request.called}
    names = [str(tool["function"]["name"]) for tool in request.tools]
    if called.isdisjoint(names):
        return False
    passed = " ".join(str(call.get("arguments", "")) for call in request.called).casefold()
    if _another_value(request.text, passed):
        return True
    if called.issuperset(names):
        return False
    parts = [part for part in _PARTS.split(request.text) if len(part.split()) >= _PART_WORDS]
    for part in parts or [request.text]:
        close = list(zip(names, similarity.of(part, request.tools), strict=True))
        left = max(cosine for name, cosine in close if name not in called)
        done = max(cosine for name, cosine in close if name in called)
        if left >= _ASKED_FOR and left - done >= _RATHER:
            return True
        if left > done and len(parts) > 1 and _of_others(part, passed):
            return True
    return False


def _of_others(part: str, passed: str) -> bool:
    """Whether a part of a request asks, and names values, none of which was passed to a tool."""
    named = [one.casefold() for one in _ONE.findall(part.partition(" ")[2])]
    return asks(part) and bool(named) and not any(one in passed for one in named)


def _another_value(text: str, passed: str) -> bool:
    """Whether a value that was passed to a tool stands beside another one that was not."""
    for found in _ONE.finditer(text):
        if found[0].casefold() not in passed:
            continue
        beside = _BESIDE.match(text, found.end())
        others = _ONE.findall(beside[0]) if beside else []
        if any(other.casefold() not in passed for other in others):
            return True
    return False
