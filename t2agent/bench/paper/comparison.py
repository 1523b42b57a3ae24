"""SVF and PEFT's kinds on the same samples, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from t2agent.bench.paper.experiments import Experiments
from t2agent.bench.paper.training import METHODS
from t2agent.bench.table import Cell, Table
from t2agent.train.confidence import Interval

_ABLATED = ("svf-attention", "svf-mlp", "svf")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The training methods of a run beside each other."""

    run: Experiments

    def tables(self) -> list[Table]:
        """All tables, in the order of the report."""
        tables = [self.methods(), self.by_method(), self.ablations()]
        if any(METHODS[name].foreign for name in self.run.trained.compared):
            tables.insert(1, self.foreign())
        return tables

    def methods(self) -> Table:
        """In domain and on siblings, means over the domains."""
        return self._methods(
            "methods", "SVF against PEFT's kinds on the same samples", foreign=False
        )

    def foreign(self) -> Table:
        """As `methods`, with the answers of another writer than the base model."""
        return self._methods(
            "foreign",
            "Answers by another writer",
            foreign=True,
            note=" Any right result counts, in that writer's words or in the base model's.",
        )

    def _methods(self, key: str, title: str, *, foreign: bool, note: str = "") -> Table:
        trained = self.run.trained
        rows: list[list[Cell]] = []
        for name in trained.compared:
            if METHODS[name].foreign != foreign:
                continue
            rate = f"{trained.rate(name):g}" + (" (given)" if name in self.run.plan.rates else "")
            seconds = Interval.of(self._all(name, "seconds"))
            found = [self.mean(name, key) for key in ("own", "sibling", "forgotten")]
            rows.append([name, self.parameters(name), rate, *found, seconds])
        columns = [
            "method", "parameters", "learning rate", "own task", "sibling", "forgotten", "seconds"
        ]  # fmt: skip
        rates = "at the learning rate, of three, that is best on validation, or that was given"
        if not self.run.plan.rates_on:
            rates = "at a usual learning rate for it"
        told = (
            "Means over the domains; the interval is over seeds. Without suffix: policy gradient; "
            f"sft: next token. Each method {rates}. Forgotten: by how many nats a token the base "
            "model's own replies to other requests became less likely."
        )
        return Table(key, title, columns, rows, told + note)

    def by_method(self) -> Table:
        """As `methods`, domain by domain."""
        domains = self.run.trained.domains
        columns = ["method", *(f"{d} ({what})" for d in domains for what in ("own", "sibling"))]
        rows: list[list[Cell]] = []
        for name in self.run.trained.compared:
            figures = [self._of(name, d, key) for d in domains for key in ("own", "sibling")]
            rows.append([name, *(Interval.of(values) if values else None for values in figures)])
        return Table("by-method", "SVF and PEFT's kinds, domain by domain", columns, rows)

    def ablations(self) -> Table:
        """Modules and objectives of SVF."""
        rows: list[list[Cell]] = []
        for name in _ABLATED:
            row: list[Cell] = [name.partition("-")[2] or "attention and mlp"]
            for method in (name, f"{name}-sft"):
                row += [
                    self.mean(method, key) if method in self.run.trained.compared else None
                    for key in ("own", "sibling")
                ]
            rows.append(row)
        columns = ["modules", "policy gradient, own", "sibling", "next token, own", "sibling"]
        return Table("ablations", "Ablations: modules and objective of SVF", columns, rows)

    def parameters(self, name: str) -> int:
        """How many numbers a method trains."""
        return int(self._all(name, "parameters")[0])

    def mean(self, name: str, key: str) -> Interval | None:
        """Mean over the domains of a method's figure, by seed; None where no domain has it."""
        by_domain = [self._of(name, domain, key) for domain in self.run.trained.domains]
        by_seed = [mean(values) for values in zip(*filter(None, by_domain), strict=True)]
        return Interval.of(by_seed) if by_seed else None

    def _all(self, name: str, key: str) -> list[float]:
        return [value for d in self.run.trained.domains for value in self._of(name, d, key)]

    def _of(self, name: str, domain: str, key: str) -> list[float]:
        """A method's figure on a domain, by seed; none where the domain has no such figure."""
        results = [self.run.compared(name, domain, seed) for seed in self.run.plan.seeds]
        return [float(result[key]) for result in results if key in result]
