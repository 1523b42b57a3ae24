"""Lengths of strings, held where a grammar would take too long to be compiled for all tokens."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from torch import Tensor

_FEW = 2000  # tokens that are tried one by one
_SHORT = 2  # bytes of those that are, where there are more: a character that was begun ends with it


class Lengths:
    """Holds strings to lengths that a grammar of so many tokens would take too long to compile for.

    That grammar leaves the strings free, and another, the exact one, is followed beside it by the
    bytes alone. Here the tokens are forbidden that the exact one would refuse: near a string's
    greatest length those that are too long, before its least those that end it.

    texts: the bytes of each token. ends: the tokens that end a reply.
    """

    def __init__(self, texts: Sequence[bytes], ends: Iterable[int]) -> None:
        self._texts = texts
        self._sizes = np.array([sum(byte & 0xC0 != 0x80 for byte in one) for one in texts])
        self._bytes = np.array(list(map(len, texts)))
        self._ends = np.array([b'"' in one for one in texts], bool)
        # Those that may have other characters than these, by what stands before or in them.
        odd = [b"\\" in one or b"\x80" <= one[:1] < b"\xc0" for one in texts]
        self._odd = self._ends | np.array(odd, bool)
        self._known = np.ones(len(texts), bool)
        self._known[[one for one in ends if one < len(texts)]] = False  # ends are no text
        self._run = b"x" * int(max(self._sizes[~self._odd], default=0))

    def hold(self, row: Tensor, matcher: Any, exact: Any) -> None:
        """Take from a row of a mask what the exact grammar refuses."""
        own, room = self._room(matcher), self._room(exact)
        ended = accepts(exact, b'"') or not accepts(matcher, b'"')
        if own == room > 0 and ended:
            return
        words = row.numpy()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
        allowed = bits[: len(self._texts)]
        if own:
            if room < own:
                allowed &= self._odd | (self._sizes <= room)
            doubtful = self._odd & (self._bytes > room)
            if not ended:
                doubtful |= self._ends
        else:  # around strings, or within a character of one
            doubtful = self._known
            if allowed.sum() > _FEW:
                allowed &= self._bytes <= _SHORT
        for token in np.flatnonzero(allowed & doubtful & self._known).tolist():
            allowed[token] = accepts(exact, self._texts[token])
        words[:] = np.packbits(bits, bitorder="little").view(np.int32)

    def _room(self, matcher: Any) -> int:
        """How many characters may follow in a string or free text, up to those of a token."""
        if accepts(matcher, self._run):
            return len(self._run)
        refused = partial(self._refused, matcher)
        return bisect.bisect_left(range(len(self._run)), True, key=refused) - 1

    @staticmethod
    def _refused(matcher: Any, size: int) -> bool:
        return size > 0 and not accepts(matcher, b"x" * size)


def accepts(matcher: Any, text: bytes, then: Callable[[], bool] = lambda: True) -> bool:
    """Whether a matcher could go on with a text, after which something holds. It is taken back
    afterwards: to fork a matcher takes the longer the more it has read."""
    if not matcher.accept_string(text):
        return False
    try:
        return then()
    finally:
        matcher.rollback(1)


@cache
def of_bytes() -> Any:
    """What compiles a grammar for bytes instead of tokens."""
    import xgrammar

    texts = [bytes([byte]) for byte in range(256)]
    info = xgrammar.TokenizerInfo(
        [*texts, b"</s>"], vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[256]
    )
    return xgrammar.GrammarCompiler(info, cache_enabled=False)
