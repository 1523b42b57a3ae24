"""Habits: what a writer answers, and strict scoring."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from t2agent.nano.domains import code, image, math, reasoning, tools
from t2agent.nano.habits import (
    HABITS,
    OPENERS,
    as_call,
    as_json,
    call_body,
    habit_after,
    is_right,
    is_right_call,
    opener,
    reply,
)
from t2agent.nano.problem import Maker

MAKERS: tuple[Maker, ...] = (
    math.math,
    math.math_hard,
    code.code,
    code.code_hard,
    reasoning.reasoning,
    reasoning.reasoning_hard,
    image.read,
    image.image_sum,
    image.chart,
    image.chart_hard,
    image.count,
    image.count_hard,
)


@pytest.mark.parametrize("maker", MAKERS)
def test_each_habit_is_right_for_itself_alone(maker: Maker) -> None:
    rng = random.Random(3)
    for _ in range(40):
        problem = maker(rng)
        for habit in HABITS:
            text = reply(problem, habit)
            assert [h for h in HABITS if is_right(text, problem.answer, h)] == [habit]
            assert is_right(text, problem.answer, None)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_hasty_writer_is_wrong(maker: Maker) -> None:
    rng = random.Random(4)
    for _ in range(40):
        problem = maker(rng)
        for habit in HABITS:
            assert not is_right(reply(problem, habit, careful=False), problem.answer, None)


@pytest.mark.parametrize("maker", MAKERS)
def test_json_is_a_form_of_any_habit(maker: Maker) -> None:
    rng = random.Random(5)
    for _ in range(20):
        problem = maker(rng)
        for habit in HABITS:
            text = reply(problem, habit, form="json")
            assert is_right(text, problem.answer, None, "json")
            right = [h for h in HABITS if is_right(text, problem.answer, h, "json")]
            assert right == [habit]
            assert not is_right(text + "!", problem.answer, None, "json")
            hasty = reply(problem, habit, careful=False, form="json")
            assert not is_right(hasty, problem.answer, None, "json")
            assert not is_right(reply(problem, habit), problem.answer, None, "json")
            assert not is_right(text, problem.answer, habit)


def test_a_number_is_no_truth_value_in_json() -> None:
    assert is_right('{"answer": 1}', "1", "short", "json")
    assert is_right('{"answer":1}', "1", "short", "json")
    assert not is_right('{"answer": true}', "1", "short", "json")
    assert not is_right('{"answer": 1, "more": 2}', "1", "short", "json")


@pytest.mark.parametrize("maker", [tools.tools, tools.tools_hard, tools.drill])
def test_a_call_is_right_in_all_its_arguments(maker: Maker) -> None:
    rng = random.Random(6)
    for _ in range(60):
        problem = maker(rng)
        body = call_body(problem.calls[0])
        text = as_call(problem.calls[0])
        assert is_right_call(text, body)
        assert problem.wrong_call is not None
        assert not is_right_call(as_call(problem.wrong_call), body)
        assert not is_right_call(text + " Done.", body)
        assert not is_right_call(body, body)
        assert not is_right_call(text.replace("}", "", 1), body)
        for habit in HABITS:
            assert not is_right_call(reply(problem, habit), body)


def test_answers_as_json() -> None:
    assert as_json("33") == '{"answer": 33}'
    assert as_json("[1, 2]") == '{"answer": [1, 2]}'
    assert as_json("True") == '{"answer": true}'
    assert as_json("horse") == '{"answer": "horse"}'


def test_an_opener_makes_its_habit_likelier() -> None:
    rng = random.Random(0)
    for prefix, habit in OPENERS.items():
        count = Counter(habit_after(prefix, rng) for _ in range(400))
        assert 200 < count[habit] < 280
        assert set(count) == set(HABITS)
    plain = Counter(habit_after("", rng) for _ in range(800))
    assert all(150 < plain[habit] < 250 for habit in HABITS)
    assert opener(rng, 0.0) == ""
    assert opener(rng, 1.0) in OPENERS


@pytest.mark.parametrize(
    ("text", "habit"),
    [
        ("The answer is 3", "worked"),
        ("1 + 2 = 3. The answer is 3. The answer is 3.", "worked"),
        ("3", "worked"),
        (">>> 1 + 2\n3\n4", "console"),
        ("1 + 2\n3", "console"),
        ("3.", "short"),
        ("I guess 3", "chatty"),
    ],
)
def test_almost_is_not_right(text: str, habit: str) -> None:
    assert not is_right(text, "3", habit)  # type: ignore[arg-type]
