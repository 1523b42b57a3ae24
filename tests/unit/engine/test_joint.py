from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from t2agent.engine.batching import JointBatch, Seat


class Doubling:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int], _cancel: threading.Event) -> list[int]:
        self.batches.append(list(numbers))
        return [2 * number for number in numbers]


def test_all_requests_are_one_batch() -> None:
    run = Doubling()
    batch = JointBatch(3, run)
    futures = [Seat(batch, None).submit(number) for number in (1, 2, 3)]
    assert [future.result(5) for future in futures] == [2, 4, 6]
    assert run.batches == [[1, 2, 3]]


def test_nothing_runs_before_the_last_has_come() -> None:
    run = Doubling()
    batch = JointBatch(2, run)
    future = Seat(batch, None).submit(1)
    with pytest.raises(TimeoutError):
        future.result(0.05)
    with Seat(batch, None):
        pass  # leaves without a request
    assert future.result(5) == 2
    assert run.batches == [[1]]


def test_a_seat_is_taken_once() -> None:
    run = Doubling()
    batch = JointBatch(1, run)
    with Seat(batch, None) as seat:
        assert seat.submit(1).result(5) == 2
        assert not seat.free
    assert run.batches == [[1]]


def test_a_failure_is_of_one_request_alone() -> None:
    tried: list[list[int]] = []

    def halve(numbers: Sequence[int], _cancel: threading.Event) -> list[int]:
        tried.append(list(numbers))
        if 3 in numbers:
            raise ValueError("no half of 3")
        return [number // 2 for number in numbers]

    batch = JointBatch(8, halve)
    futures = [Seat(batch, None).submit(number) for number in range(8)]
    with pytest.raises(ValueError, match="no half of 3"):
        futures.pop(3).result(5)
    assert [future.result(5) for future in futures] == [0, 0, 1, 2, 2, 3, 3]
    assert len(tried) == 7  # by halves, not one by one


def test_who_gave_up_is_left_out() -> None:
    run = Doubling()
    batch = JointBatch(2, run)
    first = Seat(batch, None).submit(1)
    assert first.cancel()
    assert Seat(batch, None).submit(2).result(5) == 4
    assert run.batches == [[2]]
