"""OpenMP's threads are given back after a call."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from t2agent.engine.threads import _pauses, give_back_threads, giving_back_threads

pytestmark = pytest.mark.skipif(
    not _pauses() or not Path("/proc/self/task").is_dir(), reason="PyTorch has no libgomp here"
)


def threads() -> set[str]:
    """The process's threads, by the kernel's numbers."""
    return set(os.listdir("/proc/self/task"))


def pool() -> set[str]:
    """The threads that a computation with two threads makes."""
    before = threads()
    torch.set_num_threads(2)
    x = torch.ones(512, 512)
    assert float((x @ x).sum()) == 512.0**3
    torch.ones(1 << 22).add_(1)
    return threads() - before


def ended(made: set[str]) -> bool:
    """Whether these threads are gone or go at once: they end a little after the call."""
    end = time.monotonic() + 5
    while made & threads():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(autouse=True)
def _one_thread_afterwards() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_pool_ends_and_comes_back() -> None:
    give_back_threads()
    first = pool()
    assert first
    assert not pool(), "the pool is kept from one computation to the next"
    give_back_threads()
    assert ended(first)
    assert pool()
    give_back_threads()


def test_after_an_error_too_and_in_any_thread() -> None:
    made: set[str] = set()
    alive: list[bool] = []

    @giving_back_threads
    def failing() -> None:
        made.update(pool())
        raise ValueError("once")

    def work() -> None:
        with pytest.raises(ValueError, match="once"):
            failing()
        alive.append(ended(made))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert made
    assert alive == [True], "ended while the thread that computed goes on"
