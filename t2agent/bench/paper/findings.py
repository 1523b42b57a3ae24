"""From results to tables: what the paper shows in its tables and figures, for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

from t2agent.bench.paper.experiments import ONLINE, Experiments
from t2agent.bench.paper.table import Cell, Table
from t2agent.bench.paper.training import METHODS
from t2agent.interval import Interval

_ABLATED = ("svf-attention", "svf-mlp", "svf")
_LETTERS = {
    "prompt": "A, prompt",
    "classifier": "B, classifier expert",
    "embedding": "D, embedding",
}

Reader = Callable[[Any], Any]


def at(*path: str, default: Any = None) -> Reader:
    """Reads one place of a result; ``default`` where it is missing."""

    def read(result: Any) -> Any:
        for key in path:
            result = result.get(key, default) if isinstance(result, dict) else default
        return result

    return read


@dataclass(frozen=True, slots=True)
class Findings:
    """The tables of a run's results."""

    run: Experiments

    def tables(self) -> list[Table]:
        """All tables, in the order of the report; those without results are left out."""
        unseen = [self.unseen(), self.weights(), self.scaling()] if self.run.suite.unseen else []
        found = [
            self.experts(),
            *unseen,
            *(self.confusion(strategy) for strategy in ONLINE),
            self.methods(),
            self.by_method(),
            self.ablations(),
            self.costs(),
            self.controls(),
        ]
        return [*found, self.transfer()] if self.run.second is not None else found

    def experts(self) -> Table:
        """Every task with the base model and every expert."""
        names = ["base", *self.run.suite.domains]
        rows: list[list[Cell]] = [
            [task, *(self.mean("matrix", task, at(name)) for name in names)]
            for task in self.run.suite.tasks
        ]
        note = (
            "Accuracy on the test split, strictly scored. Rows are tasks, columns the base model "
            f"and the experts. {self._pairs()}"
        )
        return Table(
            "experts", "Fine-tuning: every task with every expert", ["task", *names], rows, note
        )

    def _pairs(self) -> str:
        share = self.wrong_at_most_base()
        if share is None:
            return ""
        return (
            f"Of the pairs with conflicting habits, the wrong expert is at or below the base "
            f"model in {share:.0%}."
        )

    def wrong_at_most_base(self) -> float | None:
        """Share of the pairs (domain, conflicting expert) at or below the base model; None where
        there is no such pair."""
        suite = self.run.suite
        pairs = [
            (task, other)
            for task in suite.domains
            for other in suite.domains
            if task != other and suite.conflicting(task, other)
        ]
        if not pairs:
            return None
        return mean(
            self.mean("matrix", task, at(other)).mean <= self.mean("matrix", task, at("base")).mean
            for task, other in pairs
        )

    def unseen(self) -> Table:
        """Unseen tasks with all strategies."""
        columns = ["task", "base", *(_LETTERS[s] for s in ONLINE)]
        columns += ["C, few-shot", "D + C", "oracle: best expert", "best expert at its best weight"]
        rows: list[list[Cell]] = []
        for task in self.run.suite.unseen:
            row: list[Cell] = [task, self.mean("matrix", task, at("base"))]
            row += [self.mean("online", task, at(strategy, "accuracy")) for strategy in ONLINE]
            row += [
                self.mean("few-shot", task, at(strategy, "accuracy"))
                for strategy in ("few-shot", "embedding+few-shot")
            ]
            row.append(self.oracle(task))
            row.append(self.mean("few-shot", task, at("best single", "accuracy")))
            rows.append(row)
        note = (
            "The oracle is the expert with the best mean on the test split itself; the best expert "
            "at its best weight is chosen on validation."
        )
        return Table("unseen", "Unseen tasks, all strategies", columns, rows, note)

    def oracle(self, task: str) -> Interval:
        """The best expert for a task, by its mean on the test split."""
        found = [self.mean("matrix", task, at(name)) for name in self.run.suite.domains]
        return max(found, key=lambda interval: interval.mean)

    def confusion(self, strategy: str) -> Table:
        """Which expert the requests of each task went to."""
        results = {
            task: self._of("online", task, at(strategy, "chosen")) for task in self.run.suite.tasks
        }
        labels = [*self.run.suite.domains, "others"]
        rows: list[list[Cell]] = [
            [task, *(mean(chosen.get(label, 0.0) for chosen in found) for label in labels)]
            for task, found in results.items()
        ]
        title = f"Dispatch by {_LETTERS[strategy]}: share of the requests by expert"
        return Table(f"confusion-{strategy}", title, ["task", *labels], rows)

    def weights(self) -> Table:
        """The mixtures that few-shot search found."""
        domains = self.run.suite.domains
        rows: list[list[Cell]] = [
            [
                task,
                *(
                    self.mean("few-shot", task, at("few-shot", "mixture", n, default=0.0))
                    for n in domains
                ),
                self.mean("few-shot", task, at("few-shot", "seconds")),
            ]
            for task in self.run.suite.unseen
        ]
        columns = ["task", *domains, "seconds"]
        lent = {task: source for task in self.run.suite.unseen for source in self._lent(task)}
        note = " ".join(
            f"{task} has no examples to learn from: those of {source} were used."
            for task, source in lent.items()
        )
        return Table("weights", "Learned mixture weights (few-shot)", columns, rows, note)

    def _lent(self, task: str) -> set[str]:
        """Another task that lent this one its examples."""
        return set(self._of("few-shot", task, at("examples of"))) - {task}

    def scaling(self) -> Table:
        """Few-shot search by the number of examples."""
        plan, suite = self.run.plan, self.run.suite
        tasks = list(suite.combinations) or list(suite.unseen)
        rows: list[list[Cell]] = [
            [
                task,
                *(self.mean(f"scaling/{k}", task, at("accuracy")) for k in plan.scaling),
            ]
            for task in tasks
        ]
        columns = ["task", *(f"k = {k}" for k in plan.scaling)]
        return Table("scaling", "Few-shot search by the number of examples", columns, rows)

    def methods(self) -> Table:
        """SVF and the baselines, in domain and on siblings, means over the domains."""
        rows: list[list[Cell]] = []
        for name in self.run.plan.methods or METHODS:
            own, sibling = (self.method(name, key) for key in ("own", "sibling"))
            parameters = self.parameters(name)
            seconds = Interval.of(self._method_values(name, "seconds"))
            rate = self.run.trained.rate(name)
            rows.append([name, parameters, f"{rate:g}", own, sibling, seconds])
        columns = ["method", "parameters", "learning rate", "own task", "sibling", "seconds"]
        rates = "at the learning rate, of three, that is best on validation"
        if not self.run.plan.rates_on:
            rates = "at a usual learning rate for it"
        note = (
            "Means over the domains; the interval is over seeds. Without suffix: policy gradient; "
            f"sft: next token. Each method {rates}."
        )
        return Table("methods", "SVF against LoRA and IA3 on the same samples", columns, rows, note)

    def parameters(self, name: str) -> int:
        """How many numbers a method trains."""
        return int(self._method_values(name, "parameters")[0])

    def method(self, name: str, key: str) -> Interval | None:
        """Mean over the domains of a method's figure, by seed; None where no domain has it."""
        domains, seeds = self.run.trained.domains, self.run.plan.seeds
        ledger = self.run.ledger
        by_seed = []
        for seed in seeds:
            found = [ledger[f"compared/{name}/{domain}/{seed}"].get(key) for domain in domains]
            known = [float(value) for value in found if value is not None]
            if known:
                by_seed.append(mean(known))
        return Interval.of(by_seed) if by_seed else None

    def by_method(self) -> Table:
        """As `methods`, domain by domain."""
        domains = self.run.trained.domains
        columns = ["method", *(f"{d} ({what})" for d in domains for what in ("own", "sibling"))]
        rows: list[list[Cell]] = []
        for name in self.run.plan.methods or METHODS:
            row: list[Cell] = [name]
            for domain in domains:
                row += [self._known(f"compared/{name}", domain, key) for key in ("own", "sibling")]
            rows.append(row)
        return Table("by-method", "SVF, LoRA and IA3, domain by domain", columns, rows)

    def _method_values(self, name: str, key: str) -> list[float]:
        ledger, run = self.run.ledger, self.run
        return [
            float(ledger[f"compared/{name}/{domain}/{seed}"][key])
            for domain in run.trained.domains
            for seed in run.plan.seeds
        ]

    def ablations(self) -> Table:
        """Modules and objectives of SVF."""
        measured = self.run.plan.methods or tuple(METHODS)
        rows: list[list[Cell]] = []
        for name in _ABLATED:
            row: list[Cell] = [name.partition("-")[2] or "attention and mlp"]
            for method in (name, f"{name}-sft"):
                row += [
                    self.method(method, key) if method in measured else None
                    for key in ("own", "sibling")
                ]
            rows.append(row)
        columns = ["modules", "policy gradient, own", "sibling", "next token, own", "sibling"]
        return Table("ablations", "Ablations: modules and objective of SVF", columns, rows)

    def costs(self) -> Table:
        """The first pass's share of the time."""
        rows: list[list[Cell]] = [
            [
                _LETTERS[strategy],
                *(
                    self.mean("cost", strategy, at(key))
                    for key in ("share", "first_ms", "whole_ms")
                ),
            ]
            for strategy in ONLINE
        ]
        columns = ["strategy", "share of the first pass", "first pass, ms", "whole answer, ms"]
        note = (
            "One request at a time, requests of all domains in turn. C decides nothing per "
            "request; its search is in the table of mixture weights."
        )
        return Table("costs", "Cost of the two passes", columns, rows, note)

    def controls(self) -> Table:
        """Negative controls."""
        names = ["base", "own", "shuffled z", "random z", "random reward"]
        names += ["blank image", "swapped image"]
        rows: list[list[Cell]] = []
        for domain in self.run.suite.domains:
            row: list[Cell] = [domain]
            for name in names:
                part = "random-reward" if name == "random reward" else "controls"
                row.append(self._known(part, domain, name))
            rows.append(row)
        return Table("controls", "Negative controls", ["task", *names], rows)

    def transfer(self) -> Table:
        """The experts on another base model."""
        names = ["base", "transferred", "shuffled"]
        rows: list[list[Cell]] = [
            [domain, *(self.mean(self.run.transferred, domain, at(name)) for name in names)]
            for domain in self.run.suite.domains
        ]
        return Table("transfer", "Transfer to a second base model", ["task", *names], rows)

    def mean(self, what: str, name: str, read: Reader) -> Interval:
        """Over the seeds, of a figure of one kind of result."""
        return Interval.of(float(value) for value in self._of(what, name, read))

    def _known(self, what: str, name: str, key: str) -> Interval | None:
        """As `mean`, of a figure that not all results have; None where none has."""
        values = [value for value in self._of(what, name, at(key)) if value is not None]
        return Interval.of(values) if values else None

    def _of(self, what: str, name: str, read: Reader) -> list[Any]:
        ledger = self.run.ledger
        keys = [f"{what}/{name}/{seed}" for seed in self.run.plan.seeds]
        return [read(ledger[key]) for key in keys if key in ledger]
