"""From results to tables: what the paper shows in its tables and figures, for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

from t2agent.bench.paper.comparison import Comparison
from t2agent.bench.paper.experiments import ONLINE, Experiments
from t2agent.bench.table import Cell, Table
from t2agent.train.confidence import Interval

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
        has = self.run.plan.has
        tables = [self.experts()] if has("experts") else []
        if self.has_unseen:
            tables.append(self.unseen())
        if self.has_few_shot:
            tables += [self.weights(), self.scaling()]
        if has("strategies"):
            tables += [self.confusion(strategy) for strategy in ONLINE]
        if has("methods"):
            tables += Comparison(self.run).tables()
        if has("costs"):
            tables.append(self.costs())
        if has("controls"):
            tables.append(self.controls())
        if has("transfer") and self.run.second is not None:
            tables.append(self.transfer())
        return tables

    @property
    def has_few_shot(self) -> bool:
        """Whether there are results of few-shot search."""
        return bool(self.run.suite.unseen) and self.run.plan.has("few-shot")

    @property
    def has_unseen(self) -> bool:
        """Whether there are results of every strategy on unseen tasks."""
        return self.has_few_shot and self.run.plan.has("experts", "strategies")

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
        scores = [self.mean("matrix", task, at(name)) for name in self.run.suite.domains]
        return max(scores, key=lambda interval: interval.mean)

    def confusion(self, strategy: str) -> Table:
        """Which expert the requests of each task went to."""
        results = {
            task: self._of("online", task, at(strategy, "chosen")) for task in self.run.suite.tasks
        }
        labels = [*self.run.suite.domains, "others"]
        rows: list[list[Cell]] = [
            [task, *(mean(chosen.get(label, 0.0) for chosen in by_seed) for label in labels)]
            for task, by_seed in results.items()
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

    def mean(self, kind: str, name: str, read: Reader) -> Interval:
        """Over the seeds, of a figure of one kind of result."""
        return Interval.of(float(value) for value in self._of(kind, name, read))

    def _known(self, kind: str, name: str, key: str) -> Interval | None:
        """As `mean`, of a figure that not all results have; None where none has."""
        values = [value for value in self._of(kind, name, at(key)) if value is not None]
        return Interval.of(values) if values else None

    def _of(self, kind: str, name: str, read: Reader) -> list[Any]:
        ledger = self.run.ledger
        keys = [f"{kind}/{name}/{seed}" for seed in self.run.plan.seeds]
        return [read(ledger[key]) for key in keys if key in ledger]
