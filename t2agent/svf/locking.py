"""Who may see a model's weights: many forward passes at once, or one owner that rewrites them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class WeightLock:
    """A lock with many readers or one owner.

    A forward pass reads; `merged` owns. Ownership belongs to the context (a thread, an asyncio
    task, and what they start with a copied context, such as asyncio.to_thread) and is re-entrant;
    the owner reads freely. A waiting owner goes before new readers.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._readers = 0
        self._waiting = 0
        self._owner: object | None = None
        self._token: ContextVar[object | None] = ContextVar("t2agent_weight_owner", default=None)
        self._reading: ContextVar[int] = ContextVar("t2agent_weight_readers", default=0)

    @property
    def owned(self) -> bool:
        """Whether the current context owns the weights."""
        return self._owner is not None and self._token.get() is self._owner

    @contextmanager
    def own(self) -> Iterator[None]:
        """Keep everybody else from running the model while inside."""
        if self.owned:
            yield
            return
        mine = object()
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: self._owner is None and self._readers == 0)
                self._owner = mine
            finally:
                self._waiting -= 1
                self._free.notify_all()
        token = self._token.set(mine)
        try:
            yield
        finally:
            self._token.reset(token)
            with self._free:
                self._owner = None
                self._free.notify_all()

    @contextmanager
    def read(self) -> Iterator[None]:
        """A forward pass runs inside."""
        self.start_reading()
        try:
            yield
        finally:
            self.stop_reading()

    def start_reading(self) -> None:
        """A forward pass begins; waits while another context owns the weights."""
        depth = self._reading.get()
        if depth == 0 and not self.owned:
            with self._free:
                self._free.wait_for(lambda: self._owner is None and self._waiting == 0)
                self._readers += 1
            self._reading.set(1)
        else:
            # Negative: this reader holds nothing, because its context owns the weights.
            self._reading.set(depth + 1 if depth > 0 else depth - 1)

    def stop_reading(self) -> None:
        """The forward pass that `start_reading` announced has ended, well or not."""
        depth = self._reading.get()
        self._reading.set(depth - 1 if depth > 0 else min(depth + 1, 0))
        if depth == 1:
            with self._free:
                self._readers -= 1
                self._free.notify_all()
