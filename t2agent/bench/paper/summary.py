"""The figures of a run that t2agent's own targets are about."""

from __future__ import annotations

from statistics import mean

from t2agent.bench.paper.comparison import Comparison
from t2agent.bench.paper.experiments import ONLINE
from t2agent.bench.paper.findings import Findings, at
from t2agent.bench.paper.training import METHODS

_WON = 0.05  # a combination is won by this much over the best single expert


def summary(findings: Findings) -> dict[str, float]:
    """Name -> figure.

    own.TASK: accuracy of the expert that a task belongs to. wrong_at_most_base: share of the pairs
    of conflicting habits with the wrong expert at or below the base model. routed.STRATEGY: share
    of the requests that went to their expert. share.STRATEGY: of the first pass in the time of an
    answer. least_gain.STRATEGY: least gain over the base model on an unseen task. oracle_gap: most
    that the embedding strategy is behind the best expert on an unseen task. over_single.TASK: gain
    of few-shot search over the best single expert at its best weight; least_over_single: the least
    of them; combinations_won: how many combinations gain at least .05. image_sum_by_math: gain of
    the text-only math expert there. behind_lora.METHOD.KEY: how far SVF is behind the LoRA that is
    best on the test split itself. A figure of a part that was not run is left out.
    """
    has = findings.run.plan.has
    figures: dict[str, float] = {}
    if has("experts"):
        figures |= _experts(findings)
    if has("strategies"):
        figures |= {f"routed.{strategy}": _routed(findings, strategy) for strategy in ONLINE}
    if has("costs"):
        for strategy in ONLINE:
            figures[f"share.{strategy}"] = findings.mean("cost", strategy, at("share")).mean
    if findings.has_unseen:
        figures |= _unseen(findings)
    if has("methods"):
        figures |= _methods(findings)
    return figures


def _experts(findings: Findings) -> dict[str, float]:
    suite = findings.run.suite
    figures = {
        f"own.{task}": findings.mean("matrix", task, at(own)).mean
        for task in suite.tasks
        if (own := suite.expected(task)) is not None
    }
    share = findings.wrong_at_most_base()
    if share is not None:
        figures["wrong_at_most_base"] = share
    if "image_sum" in suite.unseen and "math" in suite.domains:
        by_math, base = (
            findings.mean("matrix", "image_sum", at(name)).mean for name in ("math", "base")
        )
        figures["image_sum_by_math"] = by_math - base
    return figures


def _routed(findings: Findings, strategy: str) -> float:
    suite = findings.run.suite
    return mean(
        findings.mean("online", task, at(strategy, "chosen", own, default=0.0)).mean
        for task in suite.tasks
        if (own := suite.expected(task)) is not None
    )


def _unseen(findings: Findings) -> dict[str, float]:
    suite = findings.run.suite
    base = {task: findings.mean("matrix", task, at("base")).mean for task in suite.unseen}
    figures: dict[str, float] = {}
    for strategy in (*ONLINE, "few-shot", "embedding+few-shot"):
        kind = "online" if strategy in ONLINE else "few-shot"
        measured = {task: findings.mean(kind, task, at(strategy, "accuracy")).mean for task in base}
        figures[f"least_gain.{strategy}"] = min(measured[task] - base[task] for task in base)
        if strategy == "embedding":
            gaps = [findings.oracle(task).mean - measured[task] for task in base]
            figures["oracle_gap"] = max(gaps)
        if strategy == "few-shot":
            over = {
                task: measured[task]
                - findings.mean("few-shot", task, at("best single", "accuracy")).mean
                for task in base
            }
            figures |= {f"over_single.{task}": gain for task, gain in over.items()}
            figures["least_over_single"] = min(over.values())
            if suite.combinations:
                figures["combinations_won"] = sum(over[t] >= _WON for t in suite.combinations)
    return figures


def _methods(findings: Findings) -> dict[str, float]:
    comparison, names = Comparison(findings.run), findings.run.trained.compared
    names = tuple(name for name in names if not METHODS[name].foreign)
    lora = [name for name in names if METHODS[name].kind == "lora"]
    figures: dict[str, float] = {}
    for name in ("svf", "svf-mlp", "svf-even", "svf-even-sft"):
        for key in ("own", "sibling"):
            others = [comparison.mean(other, key) for other in lora]
            mine = comparison.mean(name, key) if name in names else None
            theirs = [interval.mean for interval in others if interval is not None]
            if mine is not None and theirs:
                figures[f"behind_lora.{name}.{key}"] = max(theirs) - mine.mean
    return figures
