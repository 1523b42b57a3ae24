"""What takes long to make, made once for all that ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """What the latest keys come to, up to ``most``: each is made once, and others can be
    meanwhile. Safe for several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: OrderedDict[K, Future[V]] = OrderedDict()

    def of(self, key: K, make: Callable[[K], V]) -> V:
        """That of a key. Raises what ``make`` raises."""
        with self._lock:
            found = self._found.get(key)
            mine = found is None
            if found is None:
                found = self._found[key] = Future()
            self._found.move_to_end(key)
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        if mine:
            try:
                found.set_result(make(key))
            except BaseException as error:  # noqa: BLE001 - others wait for it
                with self._lock:
                    self._found.pop(key, None)
                found.set_exception(error)
        return found.result()
