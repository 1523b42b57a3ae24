"""Keys and values of what prompts begin with, so that it is not read again.

A prompt is read in pieces (`t2agent.models.reading`), which end where its own tokens say so:
prompts that begin alike have the same first pieces, and one that is known is taken as it was read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence

from t2agent.models.slots import Held

KEPT = 256 << 20
"""Bytes of keys and values that are kept for a model, unless `T2Model.prefix_cache.budget` is
set."""
LEAST = 128
"""Tokens of a piece at least: each piece takes a pass of its own."""
MOST = 512
"""Tokens of a piece at most: reading so many at once takes as long as reading them with others."""


def piece_ends(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """How many tokens there are up to the end of each piece, without what is left of the prompt.

    ends: the tokens that end a turn, after which pieces end rather than within a turn. Where a
    piece ends depends on nothing that comes after it.
    """
    found, last = [], 0
    for at, token in enumerate(tokens[:-1], start=1):
        if at - last == MOST or (at - last >= LEAST and token in ends):
            found.append(at)
            last = at
    return found


class PrefixCache:
    """Pieces of the latest prompts of one model. Safe for several threads.

    A key holds all tokens up to the piece's end, and what else its numbers depend on.

    budget: bytes that may be kept, the least recently used forgotten first; 0 for none.
    """

    def __init__(self, budget: int = KEPT) -> None:
        self.budget = budget
        self._kept: OrderedDict[Hashable, Held] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        return self._bytes

    def find(self, keys: Sequence[Hashable]) -> list[Held]:
        """The first pieces of a prompt, up to one that is not known."""
        found: list[Held] = []
        with self._lock:
            for key in keys:
                if (piece := self._kept.get(key)) is None:
                    break
                found.append(piece)
            # Without the first piece the others are of no use: it goes last.
            for key in reversed(keys[: len(found)]):
                self._kept.move_to_end(key)
        return found

    def keep(self, pieces: Mapping[Hashable, Held]) -> None:
        """Remember pieces of a prompt, in their order."""
        with self._lock:
            for key, piece in reversed(list(pieces.items())):
                if piece.bytes <= self.budget and key not in self._kept:
                    self._kept[key] = piece
                    self._bytes += piece.bytes
            while self._bytes > self.budget:
                self._bytes -= self._kept.popitem(last=False)[1].bytes
