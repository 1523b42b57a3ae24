"""Calls of many threads and tasks, answered together while the model is busy.

A call that finds the model free is answered at once. Those that come while it is busy wait, and
when it is free again all that have the same options are answered as one batch, each by a mixture
of its own. Streams and batches run beside that; only single calls are gathered.

LangChain runs `batch` as so many calls of `invoke`, each with its callbacks, its cache and its
rate limit. Here the calls keep all of that, and only the model's part is done together: a gatherer
of their own knows how many there are, and waits until each has asked or left.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from t2agent.engine.threads import giving_back_threads
from t2agent.engine.two_passes import Answer, Choice, Engine
from t2agent.models.generate import Cancel, Prompt
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.replies.constraint import Constraint

R = TypeVar("R")
A = TypeVar("A")

ROWS = 32
"""Calls of an unknown number that are answered as one batch at most."""
_TICK = 0.001  # seconds: calls that are made together come within it
_TICKS = 5  # as long as each brings another call
_INSIDE: ContextVar[bool] = ContextVar("t2agent_gathering", default=False)


class Ticket(Generic[R, A]):
    """A request that waits, or is being answered.

    Attributes:
        future: its answer, or the error that it alone led to.
        cancel: set by `give_up`, so that the answer to this request ends at the next token.
    """

    def __init__(self, key: Hashable, request: R) -> None:
        self.key = key
        self.request = request
        self.future: Future[A] = Future()
        self.cancel = threading.Event()
        self.context = contextvars.copy_context()

    def give_up(self) -> None:
        """Nobody wants the answer any more; without effect where it is there."""
        self.cancel.set()
        self.future.cancel()


class Gatherer(Generic[R, A]):
    """Answers requests in the order in which they came, those with equal keys together.

    run: answers requests with equal keys at once, in order; it gets an event for each, which is
        set when nobody wants that answer any more. It is called by one thread at a time, in the
        context of the first request. Where it raises, it is called again for either half, so that
        each request gets an answer or an error of its own.
    expected: how many will come, each by `answer`, `submit` or `leave`: nothing is answered before
        the last has come. 0 for an unknown number: what has come is answered.
    rows: requests of an unknown number that are answered together at most.
    idle: seconds that the thread waits for more of an unknown number before it ends.
    """

    def __init__(
        self,
        run: Callable[[Sequence[R], Sequence[threading.Event]], Sequence[A]],
        *,
        expected: int = 0,
        rows: int = ROWS,
        idle: float = 5.0,
    ) -> None:
        self._run = run
        self._missing = expected
        self._ticks = 0 if expected else _TICKS
        self._rows = expected or rows
        self._idle = 0 if expected else idle
        self._name = "t2agent-batch" if expected else "t2agent-gathering"
        self._changed = threading.Condition()
        self._waiting: deque[Ticket[R, A]] = deque()
        self._busy = False  # requests are being answered, or are about to be
        self._worker: threading.Thread | None = None

    def answer(self, key: Hashable, request: R) -> A:
        """The answer to a request; in this thread where no other request is there or expected."""
        ticket: Ticket[R, A] = Ticket(key, request)
        with self._changed:
            first = not (self._busy or self._waiting or self._missing > 1)
            self._busy = self._busy or first
            self._come(ticket)
        try:
            if first:
                self._answer_next(alone=True)
            return ticket.future.result()
        finally:
            ticket.give_up()

    def submit(self, key: Hashable, request: R) -> Ticket[R, A]:
        """Have a request answered in the gatherer's thread."""
        ticket: Ticket[R, A] = Ticket(key, request)
        with self._changed:
            self._come(ticket)
        return ticket

    def leave(self, count: int = 1) -> None:
        """So many of those expected do not come, or have no request after all."""
        with self._changed:
            self._come(count=count)

    def _come(self, *tickets: Ticket[R, A], count: int = 1) -> None:
        """So many less are missing; those with tickets wait for their answers."""
        self._missing = max(0, self._missing - count)
        self._waiting.extend(tickets)
        self._start()

    def _ready(self) -> bool:
        """Whether requests are to be answered now."""
        return bool(self._waiting) and not (self._missing or self._busy)

    def _start(self) -> None:
        """The thread has work, where requests are ready."""
        self._changed.notify_all()
        # Not alive: its work is over, or it was left behind by a fork.
        if self._ready() and (self._worker is None or not self._worker.is_alive()):
            self._worker = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while self._is_wanted():
            self._answer_next()

    def _is_wanted(self) -> bool:
        """Whether requests are ready, or will be within a moment; the thread ends otherwise."""
        with self._changed:
            if not self._changed.wait_for(self._ready, self._idle):
                self._worker = None
                return False
            self._busy = True
            return True

    def _answer_next(self, *, alone: bool = False) -> None:
        """Answer the next requests; where it is to be alone, only one that no other waits beside.
        The caller has set `_busy`."""
        try:
            self._linger()
            with self._changed:
                tickets = [] if alone and len(self._waiting) > 1 else self._next()
            if tickets:
                tickets[0].context.run(self._settle, tickets)
        finally:
            with self._changed:
                self._busy = False
                self._start()

    def _linger(self) -> None:
        """Let calls that were made together come."""
        known = 0
        for _ in range(self._ticks):
            now = len(self._waiting)
            if now == known:
                return
            known = now
            time.sleep(_TICK)

    def _next(self) -> list[Ticket[R, A]]:
        """Those to answer now: the oldest, and others with its key."""
        key = self._waiting[0].key
        taken: list[Ticket[R, A]] = []
        left: deque[Ticket[R, A]] = deque()
        for ticket in self._waiting:
            fits = ticket.key == key and len(taken) < self._rows
            (taken if fits else left).append(ticket)
        self._waiting = left
        return taken

    def _settle(self, tickets: Sequence[Ticket[R, A]]) -> None:
        _INSIDE.set(True)
        # From here on a future cannot be cancelled; those that were already are left out.
        live = [one for one in tickets if one.future.set_running_or_notify_cancel()]
        if live:
            self._answer_each(live)

    def _answer_each(self, tickets: Sequence[Ticket[R, A]]) -> None:
        try:
            answers = self._run([one.request for one in tickets], [one.cancel for one in tickets])
        except BaseException as error:  # noqa: BLE001 - handed to whom it concerns
            if len(tickets) == 1:
                tickets[0].future.set_exception(error)
                return
            middle = len(tickets) // 2
            self._answer_each(tickets[:middle])
            self._answer_each(tickets[middle:])
        else:
            for ticket, answer in zip(tickets, answers, strict=True):
                ticket.future.set_result(answer)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an engine; the arguments of `Engine.answer`."""

    engine: Engine
    prompt: Prompt | str
    options: GenerationOptions
    choice: Choice = None
    constraint: Constraint | None = None
    keep: frozenset[int] = field(default=frozenset())

    @property
    def key(self) -> Hashable:
        """Equal for calls that one batch can answer."""
        return self.engine, self.options, self.keep

    @property
    def conversation(self) -> Prompt:
        """The prompt of a call that is no plain text."""
        assert not isinstance(self.prompt, str)
        return self.prompt


def answer_together(
    calls: Sequence[Call], cancel: Cancel = None, *, alike: bool = True
) -> list[Answer]:
    """The answers to calls with equal keys, as one batch; cancel and alike as of `generate`."""
    first = calls[0]
    return first.engine.answer(
        [call.prompt for call in calls],
        first.options,
        choice=[call.choice for call in calls],
        cancel=cancel,
        constraints=[call.constraint for call in calls],
        keep=first.keep,
        alike=alike,
    )


Calls = Gatherer[Call, Answer]
_RUN = giving_back_threads(answer_together)
_SEAT: ContextVar[list[tuple[object, Calls]] | None] = ContextVar("t2agent_seat", default=None)
"""The context's seat with its owner; none any more when it has been taken."""


def gathered(call: Call, owner: object = None) -> Answer:
    """The answer to a call, given together with those to others: the one that it would get alone.

    owner: whose call it is; it takes the owner's `seat`, where the context is in one that is free.
    """
    return _place(call, owner).answer(call.key, call)


def submit(call: Call, owner: object = None) -> Ticket[Call, Answer]:
    """As `gathered`, without waiting for the answer."""
    return _place(call, owner).submit(call.key, call)


@contextmanager
def joint(size: int) -> Iterator[Calls]:
    """A batch for so many calls, each from a `seat` of its own. Copies of a prompt in it are to
    differ. Generating ends with the context."""
    cancel = threading.Event()
    run = giving_back_threads(lambda calls, _: answer_together(calls, cancel, alike=False))
    batch: Calls = Gatherer(run, expected=size)
    try:
        yield batch
    finally:
        cancel.set()
        batch.leave(size)  # after an error some may never come: nobody waits for them for ever


@contextmanager
def seat(batch: Calls, owner: object) -> Iterator[None]:
    """The first call of `owner` inside is one of the batch; without one, the batch expects one
    less."""
    free = [(owner, batch)]
    token = _SEAT.set(free)
    try:
        yield
    finally:
        _SEAT.reset(token)
        if free:
            batch.leave()


def _place(call: Call, owner: object) -> Calls:
    """Where a call is joined with others."""
    seats = _SEAT.get()
    if seats and seats[0][0] is owner:
        return seats.pop()[1]
    if call.engine.model.entered or _INSIDE.get():
        # With no other: `adapted` and `merged` hold for the caller's context; and what asks while
        # a gathered call is answered, such as a dispatcher, would wait for its own end.
        return Gatherer(_RUN, expected=1)
    return call.engine.model.attached(_gatherer)


def _gatherer(_model: T2Model) -> Calls:
    return Gatherer(_RUN)
