"""Calls of many threads and tasks, answered together while the model is busy.

A call that finds the model free is answered at once. Those that come while it is busy wait, and
when it is free again all that have the same options are answered as one batch, each by a mixture
of its own. Streams and batches run beside that; only single calls are gathered.

LangChain runs `batch` as so many calls of `invoke`, each with its callbacks, its cache and its
rate limit. Here the calls keep all of that, and only the model's part is done together: when each
participant has either submitted its request or left.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
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
"""Calls that are answered as one batch at most."""
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
        set when nobody wants that answer any more. It is called by one thread at a time. Where it
        raises, `settle` finds whose error it is.
    rows: requests that are answered together at most.
    idle: seconds that the thread waits for another request before it ends.
    """

    def __init__(
        self,
        run: Callable[[Sequence[R], Sequence[threading.Event]], Sequence[A]],
        *,
        rows: int = ROWS,
        idle: float = 5.0,
    ) -> None:
        self._run = run
        self._rows = rows
        self._idle = idle
        self._changed = threading.Condition()
        self._waiting: deque[Ticket[R, A]] = deque()
        self._busy = False  # requests are being answered, or are about to be
        self._worker: threading.Thread | None = None

    def answer(self, key: Hashable, request: R) -> A:
        """The answer to a request; in this thread where no other request is there."""
        ticket: Ticket[R, A] = Ticket(key, request)
        try:
            if self._claimed(ticket):
                try:
                    time.sleep(_TICK)  # calls that are made together come within it
                    if self._is_alone(ticket):
                        ticket.context.run(self._settle, [ticket])
                finally:
                    self._release()
            return ticket.future.result()
        finally:
            ticket.give_up()

    def submit(self, key: Hashable, request: R) -> Ticket[R, A]:
        """Have a request answered in the gatherer's thread."""
        ticket: Ticket[R, A] = Ticket(key, request)
        with self._changed:
            self._enqueue(ticket)
        return ticket

    def _claimed(self, ticket: Ticket[R, A]) -> bool:
        """Whether the caller may answer it, as nothing else is to be answered; else it waits."""
        with self._changed:
            free = not (self._busy or self._waiting)
            if free:
                self._busy = True
            else:
                self._enqueue(ticket)
            return free

    def _is_alone(self, ticket: Ticket[R, A]) -> bool:
        """Whether no other has come meanwhile; else it waits, as the first of them."""
        with self._changed:
            if self._waiting:
                self._waiting.appendleft(ticket)
                return False
            return True

    def _release(self) -> None:
        """The next may be answered."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _enqueue(self, ticket: Ticket[R, A]) -> None:
        self._waiting.append(ticket)
        self._changed.notify_all()
        # Not alive: its work is over, or it was left behind by a fork.
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(
                target=self._work, name="t2agent-gathering", daemon=True
            )
            self._worker.start()

    def _work(self) -> None:
        while self._is_wanted():
            self._linger()
            with self._changed:
                tickets = self._next()
            if tickets:
                tickets[0].context.run(self._settle, tickets)
            del tickets  # while idle, this thread keeps nobody's model alive
            self._release()

    def _is_wanted(self) -> bool:
        """Whether a request waits, or comes within a moment; the thread ends otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._waiting), self._idle):
                self._worker = None
                return False
            self._changed.wait_for(lambda: not self._busy)
            self._busy = True
            return True

    def _linger(self) -> None:
        """Let calls that were made together come."""
        known = 0
        for _ in range(_TICKS):
            now = len(self._waiting)
            if now in (0, known):
                return
            known = now
            time.sleep(_TICK)

    def _next(self) -> list[Ticket[R, A]]:
        """Those to answer now: the oldest, and others with its key."""
        if not self._waiting:
            return []
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
            settle(self._run_tickets, [(one, one.future) for one in live])

    def _run_tickets(self, tickets: Sequence[Ticket[R, A]]) -> Sequence[A]:
        return self._run([one.request for one in tickets], [one.cancel for one in tickets])


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an engine; the arguments of `Engine.answer`."""

    engine: Engine
    prompt: Prompt
    options: GenerationOptions
    choice: Choice = None
    constraint: Constraint | None = None
    keep: frozenset[int] = field(default=frozenset())

    @property
    def model(self) -> T2Model:
        """The base model."""
        return self.engine.model

    @property
    def key(self) -> Hashable:
        """Equal for calls that one batch can answer."""
        return id(self.engine), self.options, self.keep


def may_wait(call: Call) -> bool:
    """Whether a call can be answered in another context, after others.

    Not inside `adapted` or `merged` of its model, which hold for the caller's context; and not
    while a gathered call is answered, as by a dispatcher that asks the model itself: it would wait
    for its own end.
    """
    return not (call.model.entered or _INSIDE.get())


Calls = Gatherer[Call, Answer]


def gathered(call: Call) -> Answer:
    """The answer to a call, given together with those to others that wait for the same model: the
    one that it would get alone. Only for a call that `may_wait`."""
    return call.model.attached(_gatherer).answer(call.key, call)


def submit(call: Call) -> Ticket[Call, Answer]:
    """As `gathered`, without waiting for the answer."""
    return call.model.attached(_gatherer).submit(call.key, call)


def _gatherer(_model: T2Model) -> Calls:
    return Gatherer(giving_back_threads(answer_together))


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
