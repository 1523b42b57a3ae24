"""Habits: what a writer answers, and strict scoring."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from t2agent.nano.domains import code, image, math, reasoning
from t2agent.nano.habits import (
    HABITS,
    OPENERS,
    any_habit,
    as_json,
    habit_after,
    is_right,
    is_right_json,
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
)


@pytest.mark.parametrize("maker", MAKERS)
def test_each_habit_is_right_for_itself_alone(maker: Maker) -> None:
    rng = random.Random(3)
    for _ in range(40):
        problem = maker(rng)
        for habit in HABITS:
            text = reply(problem, habit)
            assert [h for h in HABITS if is_right(text, problem.answer, h)] == [habit]
            assert any_habit(text, problem.answer)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_hasty_writer_is_wrong(maker: Maker) -> None:
    rng = random.Random(4)
    for _ in range(40):
        problem = maker(rng)
        for habit in HABITS:
            assert not any_habit(reply(problem, habit, careful=False), problem.answer)


@pytest.mark.parametrize("maker", MAKERS)
def test_json_is_a_form_of_any_habit(maker: Maker) -> None:
    rng = random.Random(5)
    for _ in range(20):
        problem = maker(rng)
        for habit in HABITS:
            assert is_right_json(reply(problem, habit, form="json"), problem.answer)
            hasty = reply(problem, habit, careful=False, form="json")
            assert not is_right_json(hasty, problem.answer)
            assert not is_right_json(reply(problem, habit), problem.answer)


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
