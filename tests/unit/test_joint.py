from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from t2agent.joint import JointBatch, JointError, Seat


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


def test_a_failure_is_everybodys() -> None:
    def fail(_numbers: Sequence[int], _cancel: threading.Event) -> list[int]:
        raise ValueError("no")

    batch = JointBatch(2, fail)
    futures = [Seat(batch, None).submit(number) for number in (1, 2)]
    for future in futures:
        with pytest.raises(JointError, match="no"):
            future.result(5)


def test_who_gave_up_is_left_out() -> None:
    run = Doubling()
    batch = JointBatch(2, run)
    first = Seat(batch, None).submit(1)
    assert first.cancel()
    assert Seat(batch, None).submit(2).result(5) == 4
    assert run.batches == [[2]]
