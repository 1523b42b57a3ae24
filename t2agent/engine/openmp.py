"""Giving back OpenMP's threads, so that the next thread that computes has the processor to itself.

Each thread that computes has a pool of OpenMP threads for as long as it lives. GCC's libgomp, which
PyTorch brings on Linux, lets the threads of all pools sleep between two products as soon as there
are more of them than processors. Measured on two cores, with t2-nano and eight rows: generating is
slower by half as soon as a second thread has computed as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SOFT = 1  # omp_pause_soft: the threads come back with the next product, in some 200 microseconds


def give_back_threads() -> None:
    """End the pool of the calling thread. Does nothing where PyTorch computes with another
    library than libgomp."""
    for pause in _pauses():
        pause(_SOFT)


def giving_back_threads(work: Callable[P, T]) -> Callable[P, T]:
    """A function that does the same, and then `give_back_threads`."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        finally:
            give_back_threads()

    return run


@cache
def _pauses() -> tuple[Callable[[int], Any], ...]:
    from threadpoolctl import threadpool_info

    found = [one["filepath"] for one in threadpool_info() if one.get("prefix") == "libgomp"]
    functions = (getattr(ctypes.CDLL(path), "omp_pause_resource_all", None) for path in found)
    return tuple(one for one in functions if one is not None)
