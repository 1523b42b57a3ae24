"""What a server measures, in Prometheus' form."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from t2agent.engine.scheduler import Job
from t2agent.engine.two_passes import Answer
from t2agent.server.served import Served

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
_ROWS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The figures of one server: requests, tokens and seconds by model and expert."""

    def __init__(self, served: Served) -> None:
        self._all = CollectorRegistry()
        by = ("model", "expert")
        self._requests = Counter(
            "t2agent_requests", "Replies, by the expert of most weight", by, registry=self._all
        )
        self._refused = Counter(
            "t2agent_refused", "Requests answered by an error", ("code",), registry=self._all
        )
        self._tokens = Counter(
            "t2agent_tokens", "Tokens read and written", (*by, "kind"), registry=self._all
        )
        self._seconds = Histogram(
            "t2agent_seconds",
            "Seconds in the queue and of both passes",
            (*by, "part"),
            buckets=_SECONDS,
            registry=self._all,
        )
        self._batch = Histogram(
            "t2agent_batch_rows",
            "Replies that were written at once, when one began",
            ("model",),
            buckets=_ROWS,
            registry=self._all,
        )
        self._gate = Counter(
            "t2agent_gate_refusals",
            "Requests that the gate left to the base model",
            ("model",),
            registry=self._all,
        )
        waiting = Gauge("t2agent_queue", "Requests that wait", ("model",), registry=self._all)
        running = Gauge("t2agent_running", "Replies in the making", ("model",), registry=self._all)
        for base in served.bases.values():
            waiting.labels(base.name).set_function(partial(getattr, base.scheduler, "queued"))
            running.labels(base.name).set_function(partial(getattr, base.scheduler, "running"))

    def answered(self, model: str, job: Job, answer: Answer) -> None:
        """Count a reply."""
        weights = answer.decision.mixture.weights
        expert = max(weights, key=lambda name: abs(weights[name]), default="base")
        self._requests.labels(model, expert).inc()
        generation = answer.generation
        for kind, count in (
            ("prompt", generation.prompt_tokens),
            ("completion", generation.completion_tokens),
        ):
            self._tokens.labels(model, expert, kind).inc(count)
        for part, seconds in (
            ("queue", job.waited),
            ("first_pass", answer.decision.seconds),
            ("second_pass", answer.seconds),
        ):
            self._seconds.labels(model, expert, part).observe(seconds)
        self._batch.labels(model).observe(job.rows)
        if not answer.decision.in_scope:
            self._gate.labels(model).inc()

    def refused(self, code: str) -> None:
        """Count an error."""
        self._refused.labels(code).inc()

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._all)
