"""OpenMP's threads are given back after a call."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from t2agent.openmp import _pauses, give_back_threads, giving_back_threads

pytestmark = pytest.mark.skipif(
    not _pauses() or not Path("/proc/self/task").is_dir(), reason="PyTorch has no libgomp here"
)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def computed() -> int:
    """Makes a pool of two threads; how many threads the process has then."""
    torch.set_num_threads(2)
    x = torch.ones(512, 512)
    assert float((x @ x).sum()) == 512.0**3
    torch.ones(1 << 22).add_(1)
    return threads()


@pytest.fixture(autouse=True)
def _one_thread_afterwards() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_pool_ends_and_comes_back() -> None:
    give_back_threads()
    without = threads()
    assert computed() > without
    give_back_threads()
    assert threads() == without
    assert computed() > without
    give_back_threads()


def test_after_an_error_too_and_in_any_thread() -> None:
    give_back_threads()
    without = threads()
    seen: list[int] = []

    @giving_back_threads
    def failing() -> None:
        seen.append(computed())
        raise ValueError("once")

    def work() -> None:
        with pytest.raises(ValueError, match="once"):
            failing()
        seen.append(threads())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen[0] > seen[1]
    assert threads() == without
