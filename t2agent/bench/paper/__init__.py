"""The paper's experiments in one run: ``t2agent bench paper``.

    t2agent bench paper                 # t2-nano, in full: some hours on two cores
    t2agent bench paper --quick         # with the shipped experts, in ten minutes
    t2agent bench paper --model Qwen/Qwen2.5-0.5B-Instruct --task gsm8k --task mbpp

Every result is kept in the work folder as soon as it is there: a run that was stopped goes on
where it was, and several processes may share one folder (start the command more than once).
Source: Transformer-Squared (arXiv 2501.06252), sections 4 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from t2agent.bench.paper.experiments import Experiments
from t2agent.bench.paper.figures import draw_all
from t2agent.bench.paper.findings import Findings
from t2agent.bench.paper.ledger import Ledger
from t2agent.bench.paper.plan import FULL, QUICK, Plan
from t2agent.bench.paper.suite import Suite, nano_suite, real_suite
from t2agent.bench.paper.summary import summary
from t2agent.bench.paper.training import METHODS, Trained
from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.files import write_text
from t2agent.models.model import T2Model

_IN_KEYS = ("parts", "seeds", "methods", "rates", "compared_on", "scaling")
_VERSION = 3  # raise it with whatever changes a result


def run(
    *,
    quick: bool = False,
    model: str = "t2-nano",
    task: Sequence[str] = (),
    second: Path | str | None = None,
    work: Path | str = "build/paper",
    out: Path | str | None = None,
    progress: bool = True,
    **sizes: Any,
) -> dict[str, Any]:
    """Run what is missing and write the report; the figures in plain JSON.

    Args:
        quick: small sizes, and the shipped experts of t2-nano instead of trained ones.
        model: t2-nano, or a checkpoint as `T2Model.from_pretrained` takes it.
        task: for a real checkpoint: what its experts are trained for (`real_suite`).
        second: another base model, for transfer.
        work: folder of results, checkpoints and trained experts.
        out: folder of report.md, results.json and the figures; ``work`` if not given.
        progress: show bars on stderr.
        sizes: fields of `Plan`.

    Raises:
        ConfigError: a setting is unusable, a task's data are not to be had, or a result that was
            kept is damaged.
        ModalityError: a task has images, and the model reads text only.
    """
    plan = _plan(quick, sizes)
    suite = _suite(model, task)
    given = _shipped(suite) if quick and model == "t2-nano" else None
    other = _second(suite.model, second)
    experiments = run_suite(suite, plan, Path(work), given=given, second=other, progress=progress)
    return report(Findings(experiments), Path(work if out is None else out))


def run_suite(
    suite: Suite,
    plan: Plan,
    work: Path,
    *,
    given: Mapping[str, Expert] | None = None,
    second: T2Model | None = None,
    progress: bool = True,
) -> Experiments:
    """Run what is missing for a suite; the experiments, whose results are all there.

    Args:
        suite, plan: what is measured, and how much.
        work: folder of results, checkpoints and trained experts.
        given: experts to use instead of training any, by name, the classifier expert among them.
        second: as in `run`, loaded.
        progress: show bars on stderr.

    Raises:
        ConfigError, ModalityError: as `run`.
    """
    ledger = Ledger(work, _identity(suite, suite.checked(), plan, given))
    trained = Trained(suite, plan, ledger, given)
    experiments = Experiments(suite, plan, ledger, trained, second)
    suite.model.decompose(progress=progress)
    ledger.run("training experts", trained.jobs(), progress=progress)
    for part, title, jobs in (
        ("experts", "every task with every expert", experiments.matrix()),
        ("strategies", "strategies online", experiments.strategies()),
        ("few-shot", "few-shot", experiments.few_shot()),
        ("few-shot", "few-shot by examples", experiments.scaling()),
        ("controls", "controls", experiments.controls()),
        ("transfer", "transfer", experiments.transfer()),
        ("methods", "learning rates", trained.rate_jobs()),
        ("methods", "training methods", trained.method_jobs()),
        ("methods", "comparing methods", experiments.methods()),
        ("costs", "cost of the passes", experiments.costs()),
    ):
        if plan.has(part):
            ledger.run(title, jobs, progress=progress)
    return experiments


def _plan(quick: bool, sizes: Mapping[str, Any]) -> Plan:
    plan = replace(QUICK if quick else FULL, **sizes)
    strange = sorted({*plan.methods, *plan.rates, plan.taught_by} - set(METHODS))
    if strange:
        raise ConfigError(
            f"unknown method(s) {', '.join(strange)}; known: {', '.join(sorted(METHODS))}"
        )
    if METHODS[plan.taught_by].kind != "svf":
        ours = ", ".join(name for name, method in METHODS.items() if method.kind == "svf")
        raise ConfigError(f"taught_by is {plan.taught_by!r}; needed a method of z: {ours}")
    return plan


def _suite(model: str, tasks: Sequence[str]) -> Suite:
    if model != "t2-nano":
        return real_suite(T2Model.from_pretrained(model), tasks)
    if tasks:
        raise ConfigError(
            f"got the tasks {', '.join(tasks)} for t2-nano, which is measured on its own; leave "
            "them out, or give a checkpoint as the model"
        )
    return nano_suite(T2Model.from_pretrained(model))


def _second(base: T2Model, name: Path | str | None) -> T2Model | None:
    if name is None:
        return None
    second = T2Model.from_pretrained(str(name))
    if second.shapes != base.shapes:
        raise ConfigError(
            f"the experts of {base.name} do not fit the second model {second.name}: its layers "
            "are others, or of other sizes; give a model of the same architecture"
        )
    return second


def _shipped(suite: Suite) -> dict[str, Expert]:
    registry = suite.model.registry
    return {name: registry.get(name) for name in (*suite.domains, CLASSIFIER)}


def _identity(
    suite: Suite,
    data: Mapping[str, str],
    plan: Plan,
    given: Mapping[str, Expert] | None,
) -> dict[str, Any]:
    """What a result depends on, besides what its key says: more seeds or methods, or another
    second model, leave the results that are there as they are."""
    sizes = {key: value for key, value in asdict(plan).items() if key not in _IN_KEYS}
    return {
        "version": _VERSION,
        "model": suite.model.name,
        "fingerprint": suite.model.fingerprint,
        "tasks": dict(data),
        "rates": dict(suite.rates),
        "plan": sizes | {"rates chosen with seed": plan.seeds[0]},
        "given": None if given is None else {n: e.digest() for n, e in sorted(given.items())},
    }


def report(findings: Findings, out: Path) -> dict[str, Any]:
    """Write report.md, results.json and the figures into a folder; what results.json holds."""
    plan = findings.run.plan
    tables = findings.tables()
    drawn = draw_all(findings, out)
    model = findings.run.suite.model
    over = "means with 95 % intervals over seeds (Student's t)"
    if len(plan.seeds) == 1:
        over = "one seed, so no intervals"
    head = (
        f"# {model.name}: the paper's experiments\n\nSeeds {', '.join(map(str, plan.seeds))}; "
        f"at most {plan.requests} test requests a task; {over}.\n"
    )
    pictures = "\n".join(f"![{name.removesuffix('.png')}]({name})" for name in drawn)
    body = "\n".join(table.markdown() for table in tables)
    write_text(out / "report.md", f"{head}\n{body}\n## Figures\n\n{pictures}\n")
    result = {
        "model": model.name,
        "plan": asdict(plan),
        "tables": {table.name: table.to_dict() for table in tables},
        "summary": summary(findings),
        "report": str(out / "report.md"),
    }
    write_text(out / "results.json", json.dumps(result, indent=2) + "\n")
    return result
