"""Several copies of the models, held by Ray Serve: `t2agent serve --ray`.

The server's own process answers HTTP and is the ingress: it reads a request, decides its mixture
(the sentence encoder alone), and only then chooses the replica, by Ray's multiplexing: requests of
one mixture gather where it was answered before, until that replica is full.

A replica that dies loses no request: what it was at is asked again of another. Greedy replies are
the same anywhere, and sampled ones have their seeds from here, so that a stream goes on after what
the client has of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import InvalidStateError, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

# Ray would report its use over the network; nothing of ours does so unasked.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from t2agent.engine.batching import Call
from t2agent.engine.scheduler import ROWS, WAITING, Job, Scheduler
from t2agent.engine.two_passes import Answer, Engine, Given
from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture
from t2agent.models.generate import prompt_key, row_seeds
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.plans import Resolved
from t2agent.models.prompt import Prompt
from t2agent.replies.constraint import Constraint
from t2agent.server.failures import RefusedError
from t2agent.server.running import Running
from t2agent.server.served import BASE, Served

STRATEGIES = ("embedding", "off")
"""Those that decide without the base model."""
TRIES = 5
"""How often a request is asked, if each time the replica dies: it may be what they die of."""
_MIXTURES = 64  # that a replica is known for, the latest
_APPLICATION = "t2agent"
_PAUSE = 0.2  # seconds before another try, times the tries so far
_HEALTH = 2.0  # seconds between looks at whether a replica lives, and of its farewell
_LOG = logging.getLogger("t2agent.server")

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A reply that a replica is to write, as the ingress decided."""

    model: str
    prompt: Prompt | str
    options: GenerationOptions
    mixture: Mixture
    constraint: Constraint | None
    keep: frozenset[int]
    seed: int | None
    pieces: bool

    @classmethod
    def of(cls, job: Job) -> Work:
        """What a job is to have written."""
        asked = job.row.asked
        return cls(
            job.call.engine.model.name,
            asked.prompt,
            asked.options,
            asked.what.mixture,
            asked.constraint,
            asked.keep,
            asked.seed,
            asked.on_text is not None,
        )

    @property
    def gathered_by(self) -> str:
        """What requests have in common that one replica had best answer."""
        mixture = self.mixture
        if mixture.layers:
            return f"{self.model}:{mixture!r}"
        return f"{self.model}:{mixture.to_text() if mixture.weights else BASE}"


class Replica:
    """The models in a process of Ray's.

    names: of the base models. fingerprints: of their weights, as the ingress knows them. options:
    of `Served`.

    Raises ConfigError for a model that is another one on the replica's machine.
    """

    def __init__(
        self, names: Sequence[str], fingerprints: Mapping[str, str], options: Mapping[str, Any]
    ) -> None:
        self._served = Served(names, **options)
        for name, base in self._served.bases.items():
            if base.model.fingerprint != fingerprints[name]:
                raise ConfigError(
                    f"{name} has other weights on this machine than where the server runs; put "
                    "the same files on both"
                )

    async def reply(self, work: Work) -> AsyncIterator[str | tuple[Answer, int] | None]:
        """None as soon as it begins, the pieces of the text where they are wanted, and then the
        answer with the replies that were written at once when it began."""
        await self.known(serve.get_multiplexed_model_id())
        base = self._served.bases[work.model]
        choice = Given(work.mixture)
        call = Call(base.engine, work.prompt, work.options, choice, work.constraint, work.keep)
        running = await Running.start(base, call, work.seed, pieces=work.pieces)
        try:
            yield None
            async for piece in running.pieces():
                yield piece
            yield await running.answer(), running.job.rows
        finally:
            if not running.job.future.done():
                running.give_up()

    async def run(self, model: str, work: Callable[[Engine], Any]) -> Any:
        """What some work with a model comes to."""
        return await asyncio.to_thread(work, self._served.bases[model].engine)

    @serve.multiplexed(max_num_models_per_replica=_MIXTURES)
    async def known(self, mixture: str) -> str:
        """Have Ray note that requests of a mixture are answered here. What they share, vectors
        and what prompts begin with, is in the model's own caches."""
        return mixture


class Replicas(Scheduler):
    """Has the requests to one model answered by replicas.

    model: decides and reads; only its tokenizer, template and experts are used. handle: that of
        the deployed `Replica`, asked for at each request. waiting: requests that no replica has
        begun, at most.
    """

    def __init__(
        self, model: T2Model, handle: Callable[[], Any], *, waiting: int = WAITING
    ) -> None:
        super().__init__(model, waiting=waiting)
        self._handle = handle
        self._waits: set[Job] = set()
        self._runs: set[Job] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(
            target=self._loop.run_forever, name="t2agent-replicas", daemon=True
        ).start()

    @property
    def queued(self) -> int:
        """Requests that wait for a replica."""
        return len(self._waits)

    @property
    def running(self) -> int:
        """Replies that replicas write."""
        return len(self._runs)

    def _seed(self, call: Call, given: int | None) -> int | None:
        """One is chosen here, so that another replica writes the same."""
        if given is None and call.options.temperature > 0:
            [given] = row_seeds(call.options.seed, [prompt_key(call.prompt)], 1)
        return given

    def _held(self, call: Call, what: Resolved) -> Constraint | None:  # noqa: ARG002
        """What the caller wants it held to: the replica, which has the weights, adds the rest."""
        return call.constraint

    def run(self, engine: Engine, work: Callable[[Engine], T]) -> T:
        """As of `Scheduler`, by a replica; the work must be one that can be pickled."""

        async def asked() -> T:
            found: T = await self._handle().run.remote(engine.model.name, work)
            return found

        return asyncio.run_coroutine_threadsafe(_tried(asked), self._loop).result()

    def close(self, seconds: float | None = None) -> None:
        """As of `Scheduler`. The replicas stay."""
        with self._changed:
            self._closing = True
            left = [*self._waits, *self._runs]
        wait([job.future for job in left], seconds)
        for job in left:
            if not job.future.done():
                job.give_up()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _take(self, job: Job) -> None:
        with self._changed:
            self._check()
            self._waits.add(job)
        answering = asyncio.run_coroutine_threadsafe(self._answer(job), self._loop)
        job.future.add_done_callback(lambda _: answering.cancel())

    async def _answer(self, job: Job) -> None:
        work, hand_out = Work.of(job), job.row.asked.on_text
        handle = self._handle().options(stream=True, multiplexed_model_id=work.gathered_by)
        sent = ""

        async def asked() -> Answer:
            nonlocal sent
            text = ""
            found = handle.reply.remote(work)
            try:
                async for piece in found:
                    if piece is None:
                        self._waits.discard(job)
                        self._runs.add(job)
                    elif isinstance(piece, str):
                        text += piece
                        if not (sent.startswith(text) or text.startswith(sent)):
                            raise _lost("another one wrote otherwise than what was sent already")
                        if hand_out is not None and len(text) > len(sent):
                            hand_out(text[len(sent) :])
                            sent = text
                    else:
                        answer, job.rows = piece
                        return Answer(answer.generation, job.decision, answer.seconds)
            finally:
                found.cancel()
            raise _lost("it ended without an answer")

        with suppress(InvalidStateError):  # nobody wants the answer any more
            try:
                answer = await _tried(asked)
            except Exception as error:  # noqa: BLE001 - handed to whom it concerns
                job.future.set_exception(error)
            else:
                job.begun = time.perf_counter() - answer.seconds
                job.future.set_result(answer)
            finally:
                self._waits.discard(job)
                self._runs.discard(job)


async def _tried(ask: Callable[[], Awaitable[T]]) -> T:
    """What a replica answers, or another where it dies. Raises what the replica raised."""
    for tries in range(1, TRIES + 1):
        try:
            return await ask()
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except TaskCancelledError:
            raise
        except RayError as error:
            _LOG.warning(
                "a replica was lost (%s), try %d of %d", type(error).__name__, tries, TRIES
            )
            await asyncio.sleep(_PAUSE * tries)
    raise _lost(f"so did {TRIES} in a row, each at this request")


def _lost(what: str) -> RefusedError:
    told = f"the replica that wrote this reply was lost, and {what}; ask again"
    return RefusedError(503, told, "replica_lost")


@contextmanager
def serving(
    names: Sequence[str],
    *,
    dispatch: str = "embedding",
    count: int,
    cpus: float = 1.0,
    gpus: float | None = None,
    rows: int = ROWS,
    waiting: int = WAITING,
    **options: Any,
) -> Iterator[Served]:
    """What a server serves by so many replicas of the models of these names, while inside.

    Ray is the cluster that RAY_ADDRESS names, or that runs on this machine, or one that lives as
    long as this process.

    dispatch: one of STRATEGIES. cpus, gpus: what Ray reserves for each replica; by default a whole
        GPU where the cluster has some. rows: replies that a replica writes at once. waiting: as of
        `Replicas`. options: further ones of `Served`.

    Raises ConfigError for a strategy that asks the base model, where the cluster has too little
    for the replicas, and where they do not start.
    """
    if dispatch not in STRATEGIES:
        raise ConfigError(
            f"strategy {dispatch!r} asks the base model, which the ingress does not run; with "
            f"replicas there are {' and '.join(STRATEGIES)}"
        )
    with ExitStack() as stack:
        handle: Any = None  # known once the fingerprints are
        served = Served(
            names,
            dispatch=dispatch,
            scheduler=lambda model: Replicas(model, lambda: handle, waiting=waiting),
            **options,
        )
        known = {name: base.model.fingerprint for name, base in served.bases.items()}
        for base in served.bases.values():
            # Decided and read is by experts and tokenizer; the layers, most of it, are given back.
            for module in base.model.targets.layers.values():
                module.to("meta")
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
            stack.callback(ray.shutdown)
        actor = {"num_cpus": cpus, "num_gpus": _room(count, cpus, gpus)}
        # HTTP is this process's own business: Ray's proxies would be a second way in, without keys.
        serve.start(proxy_location="Disabled")
        replica = serve.deployment(
            Replica,
            name="replica",
            num_replicas=count,
            ray_actor_options=actor,
            max_ongoing_requests=rows,
            health_check_period_s=_HEALTH,
            graceful_shutdown_timeout_s=_HEALTH,
        )
        application = replica.bind(
            list(names), known, {"dispatch": dispatch, "rows": rows, **options}
        )
        stack.callback(serve.delete, _APPLICATION)
        try:
            handle = serve.run(application, name=_APPLICATION, route_prefix=None)
        except RuntimeError as error:
            raise ConfigError(f"the replicas did not start: {error}") from error
        yield served


def _room(count: int, cpus: float, gpus: float | None) -> float:
    """GPUs for each replica. Raises ConfigError where the cluster has too little."""
    there = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if there.get("GPU") else 0.0
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        if each * count > there.get(kind, 0):
            raise ConfigError(
                f"{count} replicas of {each:g} {kind} each, and Ray has {there.get(kind, 0):g}; "
                f"give fewer --replicas or a smaller --replica-{kind.lower()}s, or add machines"
            )
    return gpus
