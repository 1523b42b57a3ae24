"""Replies to a case's rows become verdicts, and verdicts figures with intervals.

A figure is a value for each row whose mean is the figure: so all of them, and differences of two
for the same rows, have their interval from `t2agent.train.confidence.Interval`. For an F1 over all
rows, and for a mean over sets of rows, the values are linearised around it (the delta method).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from t2agent.bench.real.bfcl import calls_fit
from t2agent.bench.real.replies import Reply
from t2agent.bench.real.rows import Case, Row
from t2agent.bench.real.scoring import (
    found_fields,
    is_label,
    matched_fields,
    right_calls,
    right_tools,
    said,
)
from t2agent.tasks.paper.arc import letter
from t2agent.tasks.rewards.programs import together
from t2agent.tasks.rewards.texts import last_number
from t2agent.tasks.task import Example

Verdict = Mapping[str, float | tuple[int, int]]
"""Name of a figure -> its value for a reply, a share or (right, found + wanted) of an F1."""
Figures = dict[str, list[float]]

MAIN: Mapping[str, str] = {
    "bfcl": "calls right",
    "calls": "fully right",
    "answers": "says all",
    "labels": "strict",
    "extract": "F1",
    "choice": "right",
    "code": "right",
    "number": "right",
}
"""Kind -> the figure by which experts are compared."""


def judged(case: Case, replies: Sequence[Reply]) -> list[Verdict]:
    """The verdict on each reply to a case's rows."""
    if case.kind == "code":
        examples = [
            Example(row["prompt"], str(row.get("answer", "")), other=row) for row in case.rows
        ]
        rewards = together([reply.text for reply in replies], examples)
        return [{"right": float(reward > 0)} for reward in rewards]
    judge = _JUDGES[case.kind]
    return [judge(row, reply) for row, reply in zip(case.rows, replies, strict=True)]


def figures(case: Case, verdicts: Sequence[Verdict]) -> Figures:
    """The figures of a case; each has values for the rows that have it in their verdicts."""
    found: Figures = {}
    for name in dict.fromkeys(name for verdict in verdicts for name in verdict):
        own = [
            (verdict[name], where)
            for verdict, where in zip(verdicts, case.sets, strict=True)
            if name in verdict
        ]
        values = [value for value, _ in own]
        pairs = [value for value in values if isinstance(value, tuple)]
        if pairs:
            found[name] = _f1(pairs)
            continue
        shares = [float(value) for value in values if not isinstance(value, tuple)]
        of_sets = case.kind == "labels"
        found[name] = _over_sets(shares, [where for _, where in own]) if of_sets else shares
    return found


def main_value(case: Case, verdict: Verdict) -> float | None:
    """How right one reply is, 0 to 1; None where a row has no such figure."""
    value = verdict.get(MAIN[case.kind])
    if isinstance(value, tuple):
        right, size = value
        return 2 * right / size if size else 1.0
    return value


def _calls(row: Row, reply: Reply) -> Verdict:
    return {
        "parses": float(reply.parses),
        "right tool": float(right_tools(reply.calls, row["calls"])),
        "fully right": float(not reply.unread and right_calls(reply.calls, row["calls"])),
    }


def _bfcl(row: Row, reply: Reply) -> Verdict:
    category = str(row["category"])
    right = float(not reply.error and not reply.unread and calls_fit(reply.calls, row))
    if "irrelevance" in category:
        return {"no call": right}
    own = {category: right, "calls right": right}
    alone = "parallel" not in category and ("simple" in category or "multiple" in category)
    return {**own, "simple and multiple": right} if alone else own


def _answers(row: Row, reply: Reply) -> Verdict:
    share = said(row["must_say"], reply.text) if row["must_say"] else float(bool(reply.text))
    return {"says all": float(share == 1), "share said": share}


def _labels(row: Row, reply: Reply) -> Verdict:
    return {"strict": float(is_label(reply.text, row["label"]))}


def _extract(row: Row, reply: Reply) -> Verdict:
    found, valid = found_fields(reply.text, row["schema"])
    return {"F1": matched_fields(found, row["fields"]), "valid": float(valid)}


def _choice(row: Row, reply: Reply) -> Verdict:
    return {"right": float(letter(reply.text) == row["answer"])}


def _number(row: Row, reply: Reply) -> Verdict:
    wanted = last_number(str(row["answer"]))
    return {"right": float(wanted is not None and last_number(reply.text) == wanted)}


_JUDGES: Mapping[str, Callable[[Row, Reply], Verdict]] = {
    "calls": _calls,
    "bfcl": _bfcl,
    "answers": _answers,
    "labels": _labels,
    "extract": _extract,
    "choice": _choice,
    "number": _number,
}


def _f1(pairs: Sequence[tuple[int, int]]) -> list[float]:
    size = mean(size for _, size in pairs)
    if not size:
        return [1.0 for _ in pairs]
    whole = 2 * mean(right for right, _ in pairs) / size
    return [whole + (2 * right - whole * own) / size for right, own in pairs]


def _over_sets(values: Sequence[float], sets: Sequence[str]) -> list[float]:
    many = Counter(sets)
    means = {
        where: mean(value for value, own in zip(values, sets, strict=True) if own == where)
        for where in many
    }
    whole, share = mean(means.values()), len(values) / len(many)
    return [
        whole + (value - means[where]) * share / many[where]
        for value, where in zip(values, sets, strict=True)
    ]
