"""What of a long request asks: its question, told apart from material that stands before or after.

A sentence encoder gives one vector for a text and cuts off what is too long for it. Of a question
with pages of pasted text that vector is the text's. So a request of more than some forty words is
read in pieces: those at its beginning and at its end that may be the question, each in a few
lengths, since a word problem takes several sentences to ask one thing. What lies in between is
never asked: "choose json" within a pasted text is no vote.

At most `MOST` pieces of one request are encoded, whatever its length; of a short one, itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from t2agent.dispatch.tool_offers import START, without_offer

MOST = 8
"""The most pieces of one request that are encoded."""

_SHORT_WORDS = 48
_SHORT_CHARACTERS = 360  # scripts without spaces
_PIECE_WORDS = 110  # about what an encoder of 256 tokens reads
_PIECE_CHARACTERS = 900
_SENTENCES = 8  # at either end, among which a question is looked for
_BEFORE = 2
_LINES_TOGETHER = 8

_LINES = re.compile(r"\s*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])\s*")
_QUESTION = re.compile(r"[?？؟][\"')\]*_]*$")
_WISH = re.compile(
    r"(?:[^:.!?\n]{1,24}: )?"
    r"(?:(?:please|hey|hi|hello|now|then|so|ok|and|also)\b[ ,!]*)*"
    r"(?:what|which|who|whom|whose|when|where|why|how|calculate|compute|evaluate|work out|"
    r"find|give me|give the|write|run|solve|count|choose|pick|select|explain|describe|translate|"
    r"summari[sz]e|rewrite|proofread|correct|compare|convert|classify|extract|answer|reply|"
    r"recommend|suggest|help|decide|determine|implement|sort|remind|draft|define|paraphrase|"
    r"shorten|look at|tell me|plan|can|could|may|do|does|is|are|should|will|would|i need|i want)"
    r"\b(?![(.=:_,])",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:answer )?(?:options|choices)\b|\(?[A-E][).:]\s", re.IGNORECASE)
_ABOUT_MATERIAL = re.compile(
    r"\b(?:this|these|that|those|it|below|above|following|attached|text|passage|article|e-?mail|"
    r"message|conversation|document|log|table|list|recipe|letter|notes?|snippet|paragraph|author)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """What may be the question of a request.

    Attributes:
        lengths: the same in several lengths, the likelier first.
        asks: whether it has the form of a question or a wish.
        of_material: whether it asks about what stands beside it.
    """

    lengths: tuple[str, ...]
    asks: bool
    of_material: bool


def pieces(text: str) -> tuple[Piece, ...]:
    """The pieces of a request by which it is decided: itself alone, where it is short."""
    asked = without_offer(text)
    offered = text[: len(text) - len(asked)] if text.startswith(START) else ""
    if len(asked.split(None, _SHORT_WORDS)) <= _SHORT_WORDS and len(asked) <= _SHORT_CHARACTERS:
        return (Piece((text,), True, False),)
    lines = [line for line in _LINES.split(asked.strip()) if line]
    found = _ends(lines) if len(lines) > 1 else _of_one_line(_sentences(lines[0]))
    asking = [piece for piece in found if piece.asks] or found
    return tuple(
        replace(piece, lengths=tuple(offered + one for one in piece.lengths))
        for piece in dict.fromkeys(asking)
    )


def _ends(lines: Sequence[str]) -> list[Piece]:
    first, last = _first(_sentences(lines[0])), _last(_sentences(lines[-1]))
    if not first.asks:  # what it tells of may be asked next
        told = _cut(lines[:-1][:_LINES_TOGETHER])
        first = _piece([*first.lengths, told], asks(told))
    elif _OPTION.match(lines[1]):
        first = _piece([*first.lengths, _cut(lines[:_LINES_TOGETHER])], True)
    if not last.asks:
        told = _cut(lines[1:][-_LINES_TOGETHER:], from_end=True)
        last = _piece([*last.lengths, told], asks(told))
    return [first, last]


def _of_one_line(sentences: Sequence[str]) -> list[Piece]:
    """Where nothing sets the question off, a sentence that does not ask is material."""
    first, last = _first(sentences), _last(sentences)
    if first.asks and first.lengths[-1] == last.lengths[-1]:  # it is the only one that asks
        return [replace(first, lengths=tuple(dict.fromkeys(first.lengths + last.lengths)))]
    return [first, last] if first.asks or last.asks else [first]


def _sentences(line: str) -> list[str]:
    return [part for part in _SENTENCE.split(line) if part.strip()]


def asks(text: str) -> bool:
    """Whether a sentence of a text has the form of a question or a wish."""
    return any(
        _QUESTION.search(one.strip()) or _WISH.match(one.strip().lstrip("#>*-_ \"'(["))
        for one in _sentences(text)
    )


def _first(sentences: Sequence[str]) -> Piece:
    """What is asked at the beginning: the first sentences that ask, with those before."""
    near = sentences[:_SENTENCES]
    start = next((k for k, one in enumerate(near) if asks(one)), None)
    if start is None:
        return _piece([_cut(near)], False)
    end = start + 1
    while end < len(near) and asks(near[end]):
        end += 1
    # A few sentences before it belong to it; of more, nobody knows.
    return _piece([_cut(near[0 if start <= _BEFORE else start : end])], True)


def _last(sentences: Sequence[str]) -> Piece:
    """What is asked at the end: the last sentences that ask, alone or with some of those before."""
    near = sentences[-_SENTENCES:]
    end = next((k for k in reversed(range(len(near))) if asks(near[k])), None)
    if end is None:
        return _piece([_cut(near, from_end=True)], False)
    start = end
    while start and asks(near[start - 1]):
        start -= 1
    before = [start, max(0, start - 1), max(0, start - 3)]
    return _piece([_cut(near[k : end + 1], from_end=True) for k in before], True)


def _piece(lengths: Sequence[str], asks: bool) -> Piece:
    kept = tuple(dict.fromkeys(lengths))
    return Piece(kept, asks, bool(_ABOUT_MATERIAL.search(min(kept, key=len))))


def _cut(parts: Sequence[str], *, from_end: bool = False) -> str:
    words = " ".join(parts).split()
    kept = words[-_PIECE_WORDS:] if from_end else words[:_PIECE_WORDS]
    text = " ".join(kept)
    return text[-_PIECE_CHARACTERS:] if from_end else text[:_PIECE_CHARACTERS]
