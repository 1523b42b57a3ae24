"""The experiments: each result is one job of the ledger, for one task and one seed."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from t2agent.bench.nano import decide, swapped, without_image
from t2agent.bench.paper.controls import RandomReward, random_like, shuffled
from t2agent.bench.paper.forgetting import Replies, log_likelihood, own_replies
from t2agent.bench.paper.ledger import Job, Ledger
from t2agent.bench.paper.plan import Plan
from t2agent.bench.paper.suite import Suite, draw
from t2agent.bench.paper.training import Trained
from t2agent.dispatch.few_shot.search import SearchOptions, SearchResult
from t2agent.dispatch.few_shot.strategy import adapt
from t2agent.engine.two_passes import Engine
from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture
from t2agent.experts.selection import Selection
from t2agent.experts.transfer import transfer
from t2agent.models.generate import Prompt
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.tasks.task import longest_reply
from t2agent.train import Example, Task
from t2agent.train.evaluation import accuracy

_GENERAL = 32  # requests of no domain, on whose replies is measured what a method forgets

ONLINE = ("prompt", "classifier", "embedding")
"""The strategies that decide request by request."""


@dataclass(frozen=True)
class Experiments:
    """All experiments of a run.

    Attributes:
        suite, plan, ledger, trained: what they are run on.
        second: another base model, for transfer; None without.
        engines: strategy -> its engine, made when first needed.
    """

    suite: Suite
    plan: Plan
    ledger: Ledger
    trained: Trained
    second: T2Model | None = None
    engines: dict[str, Engine] = field(default_factory=dict, init=False)

    def matrix(self) -> Iterator[Job]:
        """Every task with the base model and with every expert."""
        return self._over("matrix", list(self.suite.tasks), self._matrix)

    def methods(self) -> Iterator[Job]:
        """Every method on its own domain and on the domain's sibling."""
        for seed in self.plan.seeds:
            for domain in self.trained.domains:
                for name in self.trained.compared:
                    key = self._compared(name, domain, seed)
                    yield Job(key, partial(self._method, name, domain, seed))

    def compared(self, name: str, domain: str, seed: int) -> dict[str, Any]:
        """The result of a method on a domain, after `methods`."""
        found: dict[str, Any] = self.ledger[self._compared(name, domain, seed)]
        return found

    def _compared(self, name: str, domain: str, seed: int) -> str:
        return f"compared/{name}/{self.trained.rate(name):g}/{domain}/{seed}"

    def strategies(self) -> Iterator[Job]:
        """Every task with the strategies that decide request by request."""
        return self._over("online", list(self.suite.tasks), self._online)

    def few_shot(self) -> Iterator[Job]:
        """Unseen tasks with few-shot search, and the best single expert at its best weight."""
        return self._over("few-shot", list(self.suite.unseen), self._few_shot)

    def scaling(self) -> Iterator[Job]:
        """Few-shot search with more and fewer examples; after `few_shot`."""
        tasks = list(self.suite.combinations) or list(self.suite.unseen)
        for k in self.plan.scaling:
            yield from self._over(f"scaling/{k}", tasks, partial(self._scaled, k))

    def costs(self) -> Iterator[Job]:
        """The share of the first pass in the time of a whole answer."""
        return self._over("cost", list(ONLINE), self._cost)

    def controls(self) -> Iterator[Job]:
        """What must not work: other images, other values of z, other rewards."""
        yield from self._over("controls", list(self.suite.domains), self._controls)
        yield from self._over(
            "random-reward", list(self.suite.domains[: self.plan.compared_on]), self._random_reward
        )

    @property
    def transferred(self) -> str:
        """What the keys of transfer begin with: the second base model is among it."""
        return "transfer" if self.second is None else f"transfer-{self.second.fingerprint[:12]}"

    def transfer(self) -> Iterator[Job]:
        """The experts on the second base model, beside their shuffled selves."""
        if self.second is not None:
            yield from self._over(self.transferred, list(self.suite.domains), self._transfer)

    def _over(
        self, what: str, names: Sequence[str], measure: Callable[[str, int], Any]
    ) -> Iterator[Job]:
        for seed in self.plan.seeds:
            for name in names:
                yield Job(f"{what}/{name}/{seed}", partial(measure, name, seed))

    def _test(self, task: str, seed: int) -> list[Example]:
        return draw(self.suite.tasks[task], self.plan.requests, seed, "test")

    def _measure(self, task: str, examples: Sequence[Example], what: Any = None) -> float:
        return accuracy(self.suite.model, self.suite.tasks[task], examples, what)

    def _matrix(self, task: str, seed: int) -> dict[str, float]:
        examples = self._test(task, seed)
        experts = self.trained.experts(seed)
        return {
            name: self._measure(task, examples, what)
            for name, what in {"base": None, **experts}.items()
        }

    def _method(self, name: str, domain: str, seed: int) -> dict[str, Any]:
        sibling = self.suite.siblings.get(domain)
        found: dict[str, Any] = dict(self.trained.figures(name, domain, seed))
        found["rate"] = self.trained.rate(name)
        with self.trained.active(name, domain, seed) as what:
            for key, task in (("own", domain), ("sibling", sibling)):
                if task is not None:
                    judged = self.trained.task(name, task)
                    examples = draw(judged, self.plan.requests, seed, "test")
                    found[key] = accuracy(self.suite.model, judged, examples, what)
            kept = log_likelihood(self.suite.model, self._own_replies, what)
        found["forgotten"] = log_likelihood(self.suite.model, self._own_replies) - kept
        return found

    @functools.cached_property
    def _own_replies(self) -> Replies:
        """The base model's to requests that no expert is for."""
        return own_replies(self.suite.model, self.suite.others[:_GENERAL])

    def _engine(self, seed: int, strategy: str) -> Engine:
        """As the product has it, with a seed's experts."""
        self.trained.register(seed)
        if strategy not in self.engines:  # it follows the registry from one seed to the next
            domains = list(self.suite.domains)
            self.engines[strategy] = Engine(self.suite.model, strategy, experts=domains)
        return self.engines[strategy]

    def _online(self, task: str, seed: int) -> dict[str, Any]:
        examples = self._test(task, seed)
        found = {}
        for strategy in ONLINE:
            dispatcher = self._engine(seed, strategy).dispatcher
            assert dispatcher is not None
            decisions = decide(dispatcher, examples)
            chosen = Counter("+".join(sorted(d.mixture.weights)) or "others" for d in decisions)
            found[strategy] = {
                "accuracy": self._measure(task, examples, [d.mixture for d in decisions]),
                "chosen": {name: n / len(examples) for name, n in chosen.most_common()},
            }
        return found

    def _few_shot(self, task: str, seed: int) -> dict[str, Any]:
        examples = self._test(task, seed)
        found: dict[str, Any] = {"examples of": self._source(task).name}
        for strategy, start in (("few-shot", None), ("embedding+few-shot", "embedding")):
            result = self._search(task, seed, self.plan.shots, start)
            found[strategy] = {
                "accuracy": self._measure(task, examples, result.mixture),
                "mixture": dict(result.mixture.weights),
                "seconds": result.seconds,
                "tried": len(result.tried),
            }
        single = self._best_single(task, seed)
        found["best single"] = {
            "accuracy": self._measure(task, examples, single),
            "mixture": dict(single.weights),
        }
        return found

    def _search(self, task: str, seed: int, shots: int, start: Any = None) -> SearchResult:
        self.trained.register(seed)
        options = SearchOptions(**{**self.plan.search, "seed": seed, "examples": shots})
        return adapt(
            self.suite.model,
            self._source(task),
            experts=Selection.of(self.suite.model.registry, list(self.suite.domains)),
            start=start,
            options=options,
            progress=False,
        )

    def _source(self, task: str) -> Task:
        """Where the few examples, and those to choose on, come from: the task, or where it has no
        train split, as HumanEval, the domain that it is the sibling of."""
        try:
            self.suite.tasks[task].sample(1, seed=0, split="train")
        except ConfigError:
            domain = self.suite.expected(task)
            if domain is None:
                raise
            return self.suite.tasks[domain]
        return self.suite.tasks[task]

    def _best_single(self, task: str, seed: int) -> Mixture:
        """The single expert, at the weight, that is best on validation."""
        self.trained.register(seed)
        source = self._source(task)
        examples = draw(source, self.plan.chosen_on, seed, "val")
        tried = [
            Mixture({name: scale}) for name in self.suite.domains for scale in self.plan.scales
        ]
        return max(tried, key=lambda one: accuracy(self.suite.model, source, examples, one))

    def _scaled(self, shots: int, task: str, seed: int) -> dict[str, Any]:
        if shots == self.plan.shots:  # it is the search of `few_shot`
            known: dict[str, Any] = self.ledger[f"few-shot/{task}/{seed}"]["few-shot"]
            return {key: known[key] for key in ("accuracy", "mixture", "seconds")}
        result = self._search(task, seed, shots)
        return {
            "accuracy": self._measure(task, self._test(task, seed), result.mixture),
            "mixture": dict(result.mixture.weights),
            "seconds": result.seconds,
        }

    def _cost(self, strategy: str, seed: int) -> dict[str, float]:
        engine = self._engine(seed, strategy)
        domains = self.suite.domains
        first = whole = 0.0
        for number in range(-len(domains), self.plan.timed):
            domain = domains[number % len(domains)]
            example = self.suite.tasks[domain].sample(1, seed=number + 1000, split="val")[0]
            limit = longest_reply(self.suite.tasks[domain])
            started = time.perf_counter()
            (answer,) = engine.answer([Prompt.of(example)], GenerationOptions(max_tokens=limit))
            if number >= 0:  # those before warm up
                whole += time.perf_counter() - started
                first += answer.decision.seconds
        return {
            "share": first / whole,
            "first_ms": 1000 * first / self.plan.timed,
            "whole_ms": 1000 * whole / self.plan.timed,
        }

    def _controls(self, domain: str, seed: int) -> dict[str, float]:
        expert = self.trained.expert(domain, seed)
        examples = self._test(domain, seed)
        found = {
            "base": self._measure(domain, examples),
            "own": self._measure(domain, examples, expert),
            "shuffled z": self._measure(domain, examples, shuffled(expert, seed)),
            "random z": self._measure(domain, examples, random_like(expert, seed)),
        }
        if examples[0].image is not None:
            found["blank image"] = self._measure(domain, without_image(examples), expert)
            found["swapped image"] = self._measure(domain, swapped(examples), expert)
        return found

    def _random_reward(self, domain: str, seed: int) -> dict[str, float]:
        expert = self.trained.control(RandomReward(self.suite.tasks[domain], seed), seed)
        return {"random reward": self._measure(domain, self._test(domain, seed), expert)}

    def _transfer(self, domain: str, seed: int) -> dict[str, float]:
        assert self.second is not None
        expert, task = self.trained.expert(domain, seed), self.suite.tasks[domain]
        examples = self._test(domain, seed)
        return {
            "base": accuracy(self.second, task, examples),
            **{
                name: accuracy(self.second, task, examples, transfer(one, self.second).expert)
                for name, one in {"transferred": expert, "shuffled": shuffled(expert, seed)}.items()
            },
        }
