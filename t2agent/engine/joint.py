"""Requests that arrive one by one from several threads or tasks, answered as one batch.

LangChain runs `batch` as so many calls of `invoke`, each with its callbacks, its cache and its
rate limit. Here the calls keep all of that, and only the model's part is done together: when each
participant has either submitted its request or left.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

R = TypeVar("R")
A = TypeVar("A")


def settle(run: Callable[[Sequence[R]], Sequence[A]], asked: Sequence[tuple[R, Future[A]]]) -> None:
    """Give each request's future its answer. Where `run` raises for several, they are answered by
    halves, so that each gets an answer or an error of its own."""
    try:
        answers = run([request for request, _ in asked])
    except BaseException as error:  # noqa: BLE001 - handed to whom it concerns
        if len(asked) == 1:
            asked[0][1].set_exception(error)
            return
        middle = len(asked) // 2
        settle(run, asked[:middle])
        settle(run, asked[middle:])
    else:
        for (_, future), answer in zip(asked, answers, strict=True):
            future.set_result(answer)


class JointBatch(Generic[R, A]):
    """A batch of at most `size` requests.

    run: answers requests at once, in order. It is called in a thread of its own and gets `cancel`.
    """

    def __init__(
        self, size: int, run: Callable[[Sequence[R], threading.Event], Sequence[A]]
    ) -> None:
        self.cancel = threading.Event()
        self._run = run
        self._lock = threading.Lock()
        self._missing = size
        self._submitted: list[tuple[R, Future[A]]] = []
        self._context = contextvars.copy_context()

    def take(self, request: R | None) -> Future[A]:
        """One participant less to wait for; None where it has no request after all."""
        future: Future[A] = Future()
        with self._lock:
            if request is not None:
                self._submitted.append((request, future))
            self._missing -= 1
            complete = self._missing == 0 and bool(self._submitted)
        if complete:
            work = self._context.run
            threading.Thread(target=work, args=(self._work,), name="t2agent-batch").start()
        return future

    def _work(self) -> None:
        # From here on a future cannot be cancelled; those that were already are left out.
        waiting = [one for one in self._submitted if one[1].set_running_or_notify_cancel()]
        if waiting:
            settle(lambda requests: self._run(requests, self.cancel), waiting)


class Seat(Generic[R, A]):
    """One participant's place in a batch, for as long as the context lasts."""

    def __init__(self, batch: JointBatch[R, A], owner: object) -> None:
        self.batch = batch
        self.owner = owner
        self.free = True

    def __enter__(self) -> Seat[R, A]:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.free:
            self.free = False
            self.batch.take(None)

    def submit(self, request: R) -> Future[A]:
        """Take part, once."""
        self.free = False
        return self.batch.take(request)
