"""Requests of a server: each begins as soon as there is room, and leaves when it has its reply."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TypeVar

from t2agent.dispatch import Decision
from t2agent.engine.batching import Call
from t2agent.engine.two_passes import Answer, Engine, Given
from t2agent.errors import BusyError
from t2agent.models.model import T2Model
from t2agent.models.plans import Resolved
from t2agent.models.rows import Asked, Row, Rows
from t2agent.replies.constraint import Constraint

T = TypeVar("T")

ROWS = 16
"""Replies that a model is at, at once."""
WAITING = 256
"""Requests that wait for room at most."""
_IDLE = 5.0  # seconds without work after which the thread ends; the next request starts another


@dataclass(eq=False)
class Job:
    """A request that waits, or is being answered.

    Attributes:
        call: what is asked. decision: what the first pass decided. row: the reply.
        future: the answer, or what went wrong.
        asked, begun: when it came, and when its reply began; seconds of `time.perf_counter`.
        rows: replies that were in the making when it began, itself among them.
    """

    call: Call
    decision: Decision
    row: Row
    future: Future[Answer] = field(default_factory=Future)
    asked: float = field(default_factory=time.perf_counter)
    begun: float = 0.0
    rows: int = 1

    def give_up(self) -> None:
        """Nobody wants the answer any more: it ends at the next token."""
        self.row.asked.cancel.set()
        self.future.cancel()

    @property
    def waited(self) -> float:
        """Seconds in the queue."""
        return max(0.0, self.begun - self.asked)


class Scheduler:
    """Answers the requests to one model in a thread of its own, `rows` of them at once.

    Replies that a batch of rows that come and go cannot hold (`Rows.takes`) run by themselves, as
    do those that are searched (`t2agent.models.beams`).

    waiting: requests that wait at most; more are refused.
    """

    def __init__(
        self, model: T2Model, *, rows: int = ROWS, waiting: int = WAITING, quantized: bool = True
    ) -> None:
        self.model = model
        self.rows, self.waiting = rows, waiting
        self._batch = Rows(model, quantized=quantized)
        self._queue: deque[Job] = deque()
        self._beginning: list[Job] = []  # taken from the queue, their prompts not read yet
        self._running: dict[Row, Job] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """Requests that wait for room."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Replies that are being written."""
        return len(self._running)

    def submit(
        self,
        call: Call,
        *,
        on_text: Callable[[str], None] | None = None,
        seed: int | None = None,
        like: Job | None = None,
    ) -> Job:
        """Have a request answered. The first pass runs here, in the thread that asks, where the
        prompt is encoded as well.

        on_text: gets the pieces of the reply, in the scheduler's thread. seed: of sampling, instead
        of the options' own. like: another reply to the same call, whose decision and encoded prompt
        this one shares.

        Raises BusyError where too many wait already, or the scheduler is closing; what the first
        pass and `Row` raise.
        """
        self._check()
        seed = self._seed(call, seed)
        inputs = None
        if like is None:
            [decision] = call.engine.decide([call.prompt], call.choice)
            given = call.choice.what if isinstance(call.choice, Given) else decision.mixture
            what = self.model.resolve(given)
            asked = Asked(
                prompt=call.prompt,
                options=call.options,
                what=what,
                constraint=self._held(call, what),
                keep=call.keep,
                seed=seed,
                on_text=on_text,
            )
        else:
            decision = replace(like.decision, seconds=0.0)
            asked = replace(like.row.asked, seed=seed, on_text=on_text, cancel=threading.Event())
            inputs = like.row.inputs
        job = Job(call, decision, Row(self.model, asked, inputs))
        self._take(job)
        return job

    def run(self, engine: Engine, work: Callable[[Engine], T]) -> T:
        """What some work comes to that asks the model itself; engine: one of this model."""
        return work(engine)

    def _seed(self, call: Call, given: int | None) -> int | None:  # noqa: ARG002 - of replicas
        """The seed of a reply; None for the options' own."""
        return given

    def _held(self, call: Call, what: Resolved) -> Constraint | None:
        """What the reply is held to."""
        return call.engine.held(call.prompt, call.constraint, what)

    def _take(self, job: Job) -> None:
        with self._changed:
            self._check()
            self._queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="t2agent-scheduler", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def close(self, seconds: float | None = None) -> None:
        """Take no more, and wait until all that were taken are answered; so many seconds at most,
        after which they end as they are."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        thread = self._thread
        if thread is None:
            return
        thread.join(seconds)
        if thread.is_alive():
            with self._changed:
                for job in (*self._queue, *self._beginning, *self._running.values()):
                    job.give_up()
            thread.join()

    def _check(self) -> None:
        if self._closing:
            raise BusyError("the server is stopping and takes no more requests; ask another")
        if self.queued >= self.waiting:
            raise BusyError(
                f"{self.queued} requests wait already, of at most {self.waiting}; ask again "
                "in a moment"
            )

    def _work(self) -> None:
        while self._next() or self._running:
            self._begin()
            try:
                ended = self._batch.step()
            except BaseException as error:  # noqa: BLE001 - handed to whom it concerns
                self._batch.close()
                for broken in self._running.values():
                    broken.future.set_exception(error)
                self._running.clear()
                continue
            for row in ended:
                self._end(self._running.pop(row))

    def _next(self) -> bool:
        """Take the next requests to begin with, where there is room; whether there are any.

        Waits a while when there is nothing to do; none with nothing running ends the thread.
        """
        with self._changed:
            while True:
                found = self._beginning
                while self._queue and len(self._running) + len(found) < self.rows:
                    job = self._queue.popleft()
                    if job.future.set_running_or_notify_cancel():
                        found.append(job)
                if found or self._running:
                    return bool(found)
                if self._closing or not self._changed.wait_for(self._wanted, _IDLE):
                    self._thread = None
                    return False

    def _wanted(self) -> bool:
        return bool(self._queue) or self._closing

    def _begin(self) -> None:
        together: list[Job] = []
        for job in self._beginning:
            job.begun, job.rows = time.perf_counter(), len(self._running) + len(together) + 1
            try:
                if not job.row.searched and Rows.takes(self.model, job.row.longest):
                    together.append(job)
                else:
                    job.future.set_result(self._alone(job))
            except BaseException as error:  # noqa: BLE001 - handed to whom it concerns
                job.future.set_exception(error)
        failed = self._batch.join(*(job.row for job in together))
        for job in together:
            if job.row in failed:
                job.future.set_exception(failed[job.row])
            elif job.row.ended:
                self._end(job)
            else:
                self._running[job.row] = job
        with self._changed:
            self._beginning = []

    @staticmethod
    def _alone(job: Job) -> Answer:
        """The answer by the model's own way to generate."""
        asked = job.row.asked
        hand_out = asked.on_text
        [answer] = job.call.engine.answer(
            [asked.prompt],
            asked.options,
            choice=Given(asked.what),
            cancel=asked.cancel,
            on_text=None if hand_out is None else lambda _, piece: hand_out(piece),
            constraints=[asked.constraint],
            keep=asked.keep,
        )
        return Answer(answer.generation, job.decision, answer.seconds)

    @staticmethod
    def _end(job: Job) -> None:
        try:
            answer = Answer(job.row.generation(), job.decision, time.perf_counter() - job.begun)
        except BaseException as error:  # noqa: BLE001 - of what takes the pieces
            job.future.set_exception(error)
        else:
            job.future.set_result(answer)
