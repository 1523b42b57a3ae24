"""Trained things of a run: experts and baselines, each trained once and then read from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from t2agent.bench.paper.ledger import Job, Ledger
from t2agent.bench.paper.plan import Plan
from t2agent.bench.paper.suite import Suite
from t2agent.dispatch.classification import ClassificationTask
from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.experts.expert import Expert
from t2agent.train import Task, train_expert
from t2agent.train.options import options_for
from t2agent.train.peft import load_adapter, train_adapter

_CARD_EXAMPLES = 256  # own requests on an expert's card


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train: ``kind`` "svf" or one of PEFT's; ``objective`` "reinforce" or "sft".

    ``rates`` are the learning rates that it is chosen from on validation. ``foreign``: on the
    answers of another writer than the base model, where any right result counts (`Suite.foreign`).
    """

    kind: str
    objective: Any
    rates: tuple[float, ...]
    rank: int | None = None
    modules: str = "all"
    evenness: float = 0.0
    foreign: bool = False


_SVF, _LORA, _FACTORS = (0.01, 0.02, 0.04), (0.001, 0.003, 0.01), (0.005, 0.02, 0.05)
_EVENNESS = 0.5
_OTHERS: Mapping[str, tuple[str, int | None, tuple[float, ...]]] = {
    "dora-r1": ("dora", 1, _LORA),
    "vera-r64": ("vera", 64, _FACTORS),
    "tinylora-r16": ("tinylora", 16, _FACTORS),
    "miss-r1": ("miss", 1, _LORA),
    "road": ("road", None, _FACTORS),
    "ia3": ("ia3", None, _FACTORS),
}

METHODS: Mapping[str, Method] = {
    "svf": Method("svf", "reinforce", _SVF),
    "svf-even": Method("svf", "reinforce", _SVF, evenness=_EVENNESS),
    "svf-mlp": Method("svf", "reinforce", _SVF, modules="mlp"),
    "svf-attention": Method("svf", "reinforce", _SVF, modules="attention"),
    "svf-sft": Method("svf", "sft", _SVF),
    "svf-even-sft": Method("svf", "sft", _SVF, evenness=_EVENNESS),
    "svf-mlp-sft": Method("svf", "sft", _SVF, modules="mlp"),
    "svf-attention-sft": Method("svf", "sft", _SVF, modules="attention"),
    **{
        f"lora-r{rank}{suffix}": Method("lora", objective, _LORA, rank)
        for rank in (1, 4, 8)
        for suffix, objective in (("", "reinforce"), ("-sft", "sft"))
    },
    **{
        f"{name}{suffix}": Method(kind, objective, rates, rank)
        for name, (kind, rank, rates) in _OTHERS.items()
        for suffix, objective in (("", "reinforce"), ("-sft", "sft"))
    },
    "svf-even-foreign": Method("svf", "reinforce", _SVF, evenness=_EVENNESS, foreign=True),
    "svf-even-foreign-sft": Method("svf", "sft", _SVF, evenness=_EVENNESS, foreign=True),
    "lora-r4-foreign": Method("lora", "reinforce", _LORA, 4, foreign=True),
    "lora-r4-foreign-sft": Method("lora", "sft", _LORA, 4, foreign=True),
}
"""Name -> method. Without a suffix, the objective is the policy gradient; "sft" is next token."""


class Trained:
    """Experts and baselines of a suite.

    Args:
        suite: the base model and its tasks.
        plan: steps, seeds and hyperparameters.
        ledger: where results are; checkpoints lie beside them.
        given: experts to use instead of training any, by name, for every seed.
    """

    def __init__(
        self, suite: Suite, plan: Plan, ledger: Ledger, given: Mapping[str, Expert] | None = None
    ) -> None:
        self.suite, self.plan, self.ledger = suite, plan, ledger
        self._given = given
        self._experts: dict[tuple[str, int], Expert] = {}
        self._rates = dict(plan.rates)  # those that are known so far
        self.domains = suite.domains[: plan.compared_on]

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods that are compared."""
        return self.plan.methods or tuple(METHODS)

    def jobs(self) -> Iterator[Job]:
        """Trainings of the experts, the classifier expert among them, for all seeds."""
        if not self._trains_experts:
            return
        for seed in self.plan.seeds:
            for domain in self.suite.domains:
                yield self._job(self.plan.taught_by, domain, seed, self._own_rate(domain))
            yield Job(f"{CLASSIFIER}/{seed}", partial(self._train_classifier, seed))

    def rate_jobs(self) -> Iterator[Job]:
        """Trainings by which the methods' learning rates are chosen."""
        for name in self.compared:
            for rate in () if name in self.plan.rates else METHODS[name].rates:
                for domain in self.domains[: self.plan.rates_on]:
                    yield self._job(name, domain, self.plan.seeds[0], rate)

    def method_jobs(self) -> Iterator[Job]:
        """Trainings of every method on every domain, for all seeds, at the chosen rates."""
        for seed in self.plan.seeds:
            for domain in self.domains:
                for name in self.compared:
                    yield self._job(name, domain, seed, self.rate(name))

    def expert(self, name: str, seed: int) -> Expert:
        """A trained expert."""
        if self._given is not None:
            return self._given[name]
        if (name, seed) not in self._experts:
            self._experts[name, seed] = self._load(name, seed)
        return self._experts[name, seed]

    def experts(self, seed: int) -> dict[str, Expert]:
        """Those of all domains, by name."""
        return {name: self.expert(name, seed) for name in self.suite.domains}

    def register(self, seed: int) -> None:
        """Put a seed's experts into the model's registry, for this process alone.

        Others that are there stay: what is measured names the experts that it may choose.
        """
        registry = self.suite.model.registry
        for expert in (*self.experts(seed).values(), self.expert(CLASSIFIER, seed)):
            if expert.name not in registry or registry.get(expert.name) is not expert:
                registry.register(expert, replace=True)

    def control(self, task: Task, seed: int) -> Expert:
        """An expert trained on another task, as a control, for all the steps."""
        return self._expert(
            task, seed, f"control-{task.name}-{seed}", method="reinforce", patience=0
        )

    def rate(self, name: str) -> float:
        """The learning rate of a method: the plan's, or that with the best mean reward on
        validation."""
        if name not in self._rates:
            self._rates[name] = self._best_rate(name)
        return self._rates[name]

    def _best_rate(self, name: str) -> float:
        rates, domains = METHODS[name].rates, self.domains[: self.plan.rates_on]
        if not domains:
            return rates[1]

        def validated(rate: float) -> float:
            seed = self.plan.seeds[0]
            keys = [_key(name, domain, seed, rate) for domain in domains]
            return mean(float(self.ledger[key]["val"]) for key in keys)

        return max(rates, key=validated)

    def task(self, method: str, name: str) -> Task:
        """A task as a method is trained and measured on it."""
        own = self.suite.tasks[name]
        return self.suite.foreign.get(name, own) if METHODS[method].foreign else own

    @contextmanager
    def active(self, name: str, domain: str, seed: int) -> Iterator[Expert | None]:
        """Inside, the model with what is yielded (as `T2Model.adapted` takes it) is what a method
        has trained: an expert, or nothing where PEFT's weights are in the model."""
        rate = self.rate(name)
        folder = self._folder(_folder_of(_key(name, domain, seed, rate)))
        if METHODS[name].kind == "svf":
            yield Expert.load(folder)
            return
        with load_adapter(self.suite.model, folder).active():
            yield None

    def figures(self, name: str, domain: str, seed: int) -> dict[str, Any]:
        """What a method's training has recorded: parameters, seconds, val and val_base."""
        found: dict[str, Any] = self.ledger[_key(name, domain, seed, self.rate(name))]
        return found

    def curve(self, name: str, seed: int) -> list[dict[str, Any]]:
        """The training's metrics of an expert, step by step."""
        from t2agent.train.metrics import METRICS, read_rows

        if not self._trains_experts:
            return []
        folder = self._work(self._own_folder(name, seed))
        return [dict(row) for row in read_rows(folder / METRICS, self.plan.steps)]

    @property
    def _trains_experts(self) -> bool:
        return self._given is None and self.plan.uses_experts

    @property
    def _taught(self) -> Method:
        return METHODS[self.plan.taught_by]

    def _folder(self, name: str) -> Path:
        return self.ledger.folder / "trained" / name

    def _work(self, name: str) -> Path:
        return self.ledger.folder / "checkpoints" / name

    def _own_rate(self, domain: str) -> float:
        """The learning rate that a domain's expert is trained at."""
        usual = options_for(self._taught.objective, self.plan.hyper).learning_rate
        return self.suite.rates.get(domain, usual)

    def _own_folder(self, name: str, seed: int) -> str:
        """The name of the folders of an expert, as it is taught at its rate."""
        if name == CLASSIFIER:
            return f"{CLASSIFIER}-{seed}"
        return _folder_of(_key(self.plan.taught_by, name, seed, self._own_rate(name)))

    def _load(self, name: str, seed: int) -> Expert:
        expert = Expert.load(self._folder(self._own_folder(name, seed)))
        if name == CLASSIFIER:
            return expert
        own = self.suite.tasks[name].sample(_CARD_EXAMPLES, seed=0, split="train")
        examples = [*(e.prompt for e in own), *self.suite.examples.get(name, ())]
        card = replace(
            expert.card,
            description=self.suite.descriptions[name],
            examples=tuple(dict.fromkeys(examples)),
        )
        return Expert(card, expert.z)

    def _train_classifier(self, seed: int) -> dict[str, Any]:
        tasks = {domain: self.suite.tasks[domain] for domain in self.suite.domains}
        task = ClassificationTask(CLASSIFIER, tasks, self.suite.others)
        expert = self._expert(task, seed, f"{CLASSIFIER}-{seed}")
        expert.save(self._folder(f"{CLASSIFIER}-{seed}"))
        return _recorded(expert.card.training, expert.card.scores, expert.parameters)

    def _expert(self, task: Any, seed: int, work: str, **hyper: Any) -> Expert:
        return train_expert(
            self.suite.model,
            task,
            seed=seed,
            steps=self.plan.steps,
            checkpoint=self._work(work),
            progress=False,
            no_signal="keep",  # the base model's figures are what came of it then
            **{"method": self._taught.objective, **self.plan.hyper, **hyper},
        )

    def _job(self, name: str, domain: str, seed: int, rate: float) -> Job:
        key = _key(name, domain, seed, rate)
        return Job(key, partial(self._train_method, name, domain, seed, rate, key))

    def _train_method(
        self, name: str, domain: str, seed: int, rate: float, key: str
    ) -> dict[str, Any]:
        method, folder = METHODS[name], _folder_of(key)
        hyper: dict[str, Any] = {
            "method": method.objective,
            "learning_rate": rate,
            "modules": method.modules,
        }
        task = self.task(name, domain)
        if method.kind == "svf":
            expert = self._expert(task, seed, folder, evenness=method.evenness, **hyper)
            expert.save(self._folder(folder))
            return _recorded(
                expert.card.training, expert.card.scores, expert.card.training["parameters"]
            )
        adapted = train_adapter(
            self.suite.model,
            task,
            kind=method.kind,  # type: ignore[arg-type]
            rank=method.rank,
            steps=self.plan.steps,
            seed=seed,
            checkpoint=self._work(folder),
            progress=False,
            no_signal="keep",
            **{**self.plan.hyper, **hyper},
        )
        adapted.save(self._folder(folder))
        return _recorded(adapted.training, adapted.scores, adapted.parameters)


def _key(name: str, domain: str, seed: int, rate: float) -> str:
    return f"method/{name}/{rate:g}/{domain}/{seed}"


def _folder_of(key: str) -> str:
    return key.replace("/", "-")


def _recorded(
    training: Mapping[str, Any], scores: Mapping[str, Any], parameters: int
) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "seconds": training["seconds"],
        "steps": training["steps"],
        "best_step": training["best_step"],
        "val": scores["val"],
        "val_base": scores["val_base"],
    }
