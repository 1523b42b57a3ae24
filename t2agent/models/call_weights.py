"""What tokens lose while a reply calls tools, for what the request is about.

A sentence encoder knows what a request is about, and errs elsewhere than the model. How well the
tools fit the request and its parts (`t2agent.replies.tool_fit`) counts while a name is written,
beside what the model makes of the names of itself (`t2agent.models.name_prior`); and where calls
may end, what of the request is left. Of real requests for several calls, never seen, smollm2 with
its expert called the right tools in .47 without and in .74 with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from t2agent.models.closing import Speller, free, in_text
from t2agent.models.compiling import Tokens
from t2agent.models.lengths import accepts
from t2agent.replies.constraint import Constraint

_FIT = 40.0  # nats for the cosine between a tool and a request
_LEFT = 10.0  # nats that an end of the calls loses while something of the request is left


class CallWeights:
    """Those of one reply, after what it has written so far."""

    def __init__(self, tokens: Tokens, speller: Speller, constraint: Constraint) -> None:
        self._texts, self._speller = tokens.texts, speller
        self._trigger = constraint.trigger.encode()
        self._end, between = constraint.end.encode(), constraint.separator
        self._next = [(between + name).encode() for name in constraint.names if between is not None]
        self._caution = constraint.caution
        self._prior, self._fit = constraint.prior, constraint.fit
        self._begun, self._written = False, b""

    def accept(self, token: int) -> None:
        """Go on by a token."""
        self._begun = True
        if self._prior is not None:
            self._written += self._texts[token]

    def weigh(self, scores: Tensor, matcher: Any) -> None:
        """Take them from the scores (vocabulary,) of the tokens that the grammar's matcher allows:
        the others' are -inf."""
        if self._caution and not self._begun:
            scores[list(self._speller.first(self._trigger))] -= self._caution
        if self._prior is None:
            return
        if weights := self._of_names():
            # Together they stay as likely as they were: else a reply with more calls would gain by
            # it where several are compared (`t2agent.models.beams`).
            before = scores.logsumexp(-1)
            scores[list(weights)] -= scores.new_tensor(list(weights.values()))
            scores += before - scores.logsumexp(-1)
        elif done := self._done(scores, matcher):
            scores[done] -= _LEFT

    def _of_names(self) -> Mapping[int, float]:
        """For the tokens that a name may go on with; one counts as the best of the tools whose name
        it may become."""
        assert self._prior is not None
        before, anchor, name = self._written.rpartition(self._prior.anchor)
        weights = self._prior.weights.get(name, {}) if anchor else {}
        if not weights or self._fit is None:
            return weights
        best = dict.fromkeys(weights, -1.0)
        fits = self._fit.next(self._prior.called(before))
        for way, fit in zip(self._prior.ways, fits, strict=True):
            if (token := way.get(name)) is not None:
                best[token] = max(best[token], fit)
        return {token: one - _FIT * best[token] for token, one in weights.items()}

    def _done(self, scores: Tensor, matcher: Any) -> list[int]:
        """The tokens by which the calls end while something of the request is left."""
        assert self._prior is not None
        if self._fit is None or not self._next:
            return []
        _, anchor, last = self._written.rpartition(self._prior.anchor)
        if not anchor or not any(last.startswith(name) for name in self._prior.names):
            return []
        end, ways = self._ways(matcher)
        called = self._prior.called(self._written)
        passed = self._written.partition(anchor)[2].decode(errors="replace")
        if not ways or not self._fit.goes_on(called, passed):
            return []
        allowed: list[int] = scores.isfinite().nonzero()[:, 0].tolist()
        texts = {token: self._texts[token] for token in allowed}
        return [
            token
            for token, text in texts.items()
            if text.startswith(end) and not (text and any(way.startswith(text) for way in ways))
        ]

    def _ways(self, matcher: Any) -> tuple[bytes, list[bytes]]:
        """What is left to be written of a call's end, and the texts by which another may follow;
        none within a call."""
        outside = free(matcher)
        if not outside and in_text(matcher):
            return b"", []
        # Any tool may be called next: where the first one's call may go on, all may.
        first = self._next[0]
        sizes = [size for size in range(len(first)) if self._written.endswith(first[:size])]
        if not outside:
            sizes = [size for size in sizes if accepts(matcher, first[size:])]
        ways = [text[size:] for size in sizes for text in self._next]
        if outside:
            return b"", [*ways, self._trigger]
        if ways:
            return b"", ways
        ends = (self._end[start:] for start in range(len(self._end)))
        end = next((end for end in ends if accepts(matcher, end + first)), None)
        return (b"", []) if end is None else (end, [end + text for text in self._next])
