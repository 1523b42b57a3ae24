"""Figures of replies to real data."""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

import pytest

from t2agent.bench.real.figures import figures, judged, main_value
from t2agent.bench.real.forms import field_schema
from t2agent.bench.real.replies import Reply
from t2agent.bench.real.rows import Case
from t2agent.train.confidence import Interval


def case(kind: str, rows: list[dict[str, Any]], sets: list[str] | None = None) -> Case:
    return Case(kind, kind, tuple(rows), tuple(sets or ["one"] * len(rows)))


def means(one: Case, replies: list[Reply]) -> dict[str, float]:
    found = figures(one, judged(one, replies))
    return {name: mean(values) for name, values in found.items()}


def test_calls() -> None:
    wanted = [{"name": "f", "arguments": {"a": 1}}]
    rows = [{"calls": wanted}] * 4
    right = Reply(calls=tuple(wanted))
    wrong = Reply(calls=({"name": "f", "arguments": {}},))
    found = means(case("calls", rows), [right, wrong, Reply(calls=right.calls, unread=1), Reply()])
    assert found == {"parses": 0.5, "right tool": 0.75, "fully right": 0.25}


def test_categories_of_bfcl_have_their_own_figures() -> None:
    tool = {"function": {"name": "f", "parameters": {"properties": {}}}}
    kinds = ("simple_python", "multiple", "parallel", "irrelevance")
    rows = [{"category": kind, "tools": [tool], "ground_truth": [{"f": {}}]} for kind in kinds]
    call = Reply(calls=({"name": "f", "arguments": {}},))
    assert means(case("bfcl", rows), [call, Reply(), call, Reply(error="refused")]) == {
        "simple_python": 1,
        "multiple": 0,
        "simple and multiple": 0.5,
        "parallel": 1,
        "calls right": pytest.approx(2 / 3),
        "no call": 0,
    }


def test_the_f1_is_over_all_values_and_its_interval_is_that_of_a_ratio() -> None:
    schema = field_schema({"a": False, "b": True})
    wanted = [{"a": "x"}, {"b": ["y", "z"]}, {"a": "x", "b": ["y"]}, {}]
    said = [{"a": "x"}, {"b": ["y"]}, {"a": "q"}, {"a": "x"}]
    one = case("extract", [{"schema": schema, "fields": fields} for fields in wanted])
    replies = [Reply(json.dumps(fields)) for fields in said]
    values = figures(one, judged(one, replies))["F1"]
    assert mean(values) == pytest.approx(2 * 2 / (4 + 5))
    half = Interval.of(values).half
    assert half is not None
    assert 0.2 < half < 1.5
    assert [main_value(one, verdict) for verdict in judged(one, replies)] == [
        1.0, pytest.approx(2 / 3), 0.0, 0.0
    ]  # fmt: skip


def test_labels_count_by_their_sets() -> None:
    rows = [{"label": "a"}] * 6
    one = case("labels", rows, ["first"] * 4 + ["second"] * 2)
    replies = [Reply(text) for text in ("a", "a", "a", "b", "A.", "It is a")]
    values = figures(one, judged(one, replies))["strict"]
    assert mean(values) == pytest.approx((0.75 + 0.5) / 2)
    # The variance of such a mean: a quarter of the sum of both sets' own.
    spread = (0.75 * 0.25 / 4 + 0.5 * 0.5 / 2) / 4
    assert sum((value - mean(values)) ** 2 for value in values) / 36 == pytest.approx(spread)


def test_numbers_letters_values_and_programs() -> None:
    rows = [{"answer": "1,000"}] * 3
    replies = [Reply("so 1000.0"), Reply("1000 of 5"), Reply("")]
    assert means(case("number", rows), replies) == {"right": pytest.approx(1 / 3)}
    letters = [Reply("The answer is B."), Reply("B"), Reply("A. moss")]
    assert means(case("choice", [{"answer": "B"}] * 3), letters) == {"right": pytest.approx(2 / 3)}
    told = [Reply("At 7 pm in Rome."), Reply("In Rome.")]
    assert means(case("answers", [{"must_say": ["19:00", "rome"]}] * 2), told) == {
        "says all": 0.5,
        "share said": 0.75,
    }
    row = {
        "prompt": 'def f(x):\n    """Twice x."""\n',
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "f",
    }
    bodies = [Reply("```python\ndef f(x):\n    return 2 * x\n```"), Reply("    return x")]
    assert means(case("code", [row] * 2), bodies) == {"right": 0.5}
