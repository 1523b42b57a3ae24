"""Keys and values of prompts that were read, so that what begins alike is not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from t2agent.models.model import T2Model
from t2agent.models.slots import Held

KEPT = 256 << 20
"""Bytes of keys and values that are kept for a model, of the latest prompts."""
_LEAST = 16  # tokens: of fewer, reading takes no time


class Prefixes:
    """The latest prompts of one model, by the mixtures that read them. Safe for several threads."""

    def __init__(self, _model: T2Model) -> None:
        self._kept: OrderedDict[tuple[Hashable, tuple[int, ...]], Held] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, mixture: Hashable, tokens: Sequence[int]) -> Held | None:
        """What is known of the longest beginning of these tokens, not of all of them; None where
        that is short."""
        with self._lock:
            own = (key for key in self._kept if key[0] == mixture)
            found = [(_shared(key[1], tokens), key) for key in own]
            shared, key = max(found, key=lambda one: one[0], default=(0, None))
            shared = min(shared, len(tokens) - 1)
            if key is None or shared < _LEAST:
                return None
            self._kept.move_to_end(key)
            return self._kept[key].first(shared)

    def keep(self, mixture: Hashable, tokens: Sequence[int], held: Held) -> None:
        """Remember a prompt; those that it begins with are not needed any more."""
        if held.bytes > KEPT or len(tokens) <= _LEAST:
            return
        whole = tuple(tokens)
        with self._lock:
            for key in list(self._kept):
                if key[0] == mixture and key[1] == whole[: len(key[1])]:
                    self._bytes -= self._kept.pop(key).bytes
            self._kept[mixture, whole] = held
            self._bytes += held.bytes
            while self._bytes > KEPT:
                self._bytes -= self._kept.popitem(last=False)[1].bytes


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for place, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return place
    return min(len(a), len(b))
