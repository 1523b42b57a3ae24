"""How a reply that a grammar leaves open is closed by the shortest text, and what that takes."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from t2agent.models.compiling import Tokens
from t2agent.models.lengths import accepts

_NO_JSON = b"zq~"  # what only a string, or free text, can go on with
_STRUCTURE = (b"}", b"]", b'"', b",")
_VALUES = (b"0", b"n", b"f", b"t")
_OUTSIDE = (
    (*_STRUCTURE, *_VALUES, b"[", b"{"),
    (*_STRUCTURE[:2], b",", *_VALUES, b'"', b"[", b"{"),
)
"""What may bring a value to its end, in two orders, of which the shorter way counts: a string may
be shorter than a number, and need not be."""
_BYTES = tuple(bytes([i]) for i in (*range(32, 127), 10, 9, 13, *range(127, 256)))
_STEPS = 400  # pieces after which the search for an end is given up


def free(matcher: Any) -> bool:
    """Whether a grammar's matcher is in free text, which may end anywhere."""
    return bool(matcher.is_completed()) and in_text(matcher)


def ending(matcher: Any, marks: Sequence[bytes], tails: Sequence[bytes] = ()) -> bytes | None:
    """Text that completes what a grammar's matcher has read; b"" where it is complete.

    marks: texts, other than JSON's own, that end a part of it. tails: what may end its strings and
    numbers, from any place in them. None where no end was found.
    """
    if matcher.is_completed():
        return b""
    ways = (_ending(matcher.fork(), marks, tails, order) for order in _OUTSIDE)
    return min((way for way in ways if way is not None), key=len, default=None)


def _ending(
    matcher: Any, marks: Sequence[bytes], tails: Sequence[bytes], order: Sequence[bytes]
) -> bytes | None:
    text = bytearray()
    for step in range(_STEPS):
        if matcher.is_completed():
            return bytes(text)
        piece = forced(matcher)
        if not piece or not matcher.accept_string(piece):
            whole = (one for one in tails if _ends_part(matcher, one, marks))
            if in_text(matcher):
                # A mark may be text, too: it must lead out of it.
                ends = [one for one in (*marks, b'"') if _leads_out(matcher, one)]
                tried: Iterable[bytes] = chain(ends, whole, _turned(step))
            else:
                # A number that may end does, before its tails make it longer.
                tried = chain(marks, order[:2], (b",",), whole, order, _turned(step))
            piece = next((one for one in tried if matcher.accept_string(one)), b"")
        if not piece:
            return None
        text += piece
    return None


def in_text(matcher: Any) -> bool:
    """Whether it is in text that may go on with anything: free, or a string."""
    return accepts(matcher, _NO_JSON)


def _leads_out(matcher: Any, end: bytes) -> bool:
    return accepts(matcher, end, lambda: not in_text(matcher))


def _ends_part(matcher: Any, tail: bytes, marks: Sequence[bytes]) -> bool:
    """Whether a string or number is whole after the tail: digits alone may lead on for ever."""

    def whole() -> bool:
        after = (b",", b"}", b"]", *marks)
        ended = tail.endswith(b'"') or matcher.is_completed()
        return ended or any(accepts(matcher, one) for one in after)

    return accepts(matcher, tail, whole)


def forced(matcher: Any) -> bytes:
    """The text that a grammar's matcher leaves no choice about; b"" for none."""
    try:
        text: str = matcher.find_jump_forward_string()
    except UnicodeDecodeError:  # it ends within a character
        return b""
    return text.encode()


def _turned(step: int) -> Iterator[bytes]:
    """All bytes, beginning with another one at each step, so that no loop is for ever."""
    start = step % 95
    yield from _BYTES[start:95]
    yield from _BYTES[:start]
    yield from _BYTES[95:]


class Speller:
    """Text as tokens: at each place the longest token that spells what comes next.

    keep: special tokens that show in the text.
    """

    def __init__(self, tokens: Tokens, keep: frozenset[int] = frozenset()) -> None:
        self._tokens = tokens
        self._kept = {tokens.texts[one]: one for one in keep if one < len(tokens.texts)}

    def first(self, text: bytes) -> Iterator[int]:
        """The tokens that the text may begin with, longest first."""
        for size in range(min(len(text), self._tokens.longest), 0, -1):
            piece = text[:size]
            found = self._kept.get(piece, self._tokens.ids.get(piece))
            if found is not None:
                yield found

    def count(self, text: bytes) -> int:
        """How many tokens the text takes."""
        size = 0
        while text:
            one = next(self.first(text), None)
            text = text[1 if one is None else len(self._tokens.texts[one]) :]
            size += 1
        return size


class Guard:
    """Tells the tokens that would complete a text, such as the mark that begins a call."""

    @classmethod
    def of(cls, tokens: Tokens, text: bytes) -> Guard:
        """That of a text; made once."""
        found: Guard | None = tokens.guards.get(text)
        if found is None:
            found = tokens.guards[text] = cls(tokens, text)
        return found

    def __init__(self, tokens: Tokens, text: bytes) -> None:
        self._text = text
        ordered = sorted((one, number) for number, one in enumerate(tokens.texts) if one)
        self._sorted = [one for one, _ in ordered]
        self._numbers = [number for _, number in ordered]
        self._whole = [number for one, number in ordered if text in one]

    def forbidden(self, before: bytes) -> list[int]:
        """Those after which ``before`` and the token hold the text."""
        found = list(self._whole)
        for size in range(1, len(self._text)):
            if before.endswith(self._text[:size]):
                rest = self._text[size:]
                start = bisect.bisect_left(self._sorted, rest)
                end = bisect.bisect_left(self._sorted, rest + b"\xff" * 8)
                found += self._numbers[start:end]
        return found
