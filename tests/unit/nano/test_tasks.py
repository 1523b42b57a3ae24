"""The tasks: splits, rewards, and answers that are true."""

from __future__ import annotations

import random
import re

import pytest

from t2agent.errors import ConfigError
from t2agent.nano.domains import code, image, math
from t2agent.nano.problem import draw, split_of
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.nano.words import CATEGORIES
from t2agent.train import Task


@pytest.mark.parametrize("name", TASKS)
def test_splits_do_not_overlap(name: str) -> None:
    rng = random.Random(1)
    task = TASKS[name]
    keys = {
        split: {draw(task.maker, rng, split).key for _ in range(60)}
        for split in ("train", "val", "test")
    }
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["val"]
    assert not keys["val"] & keys["test"]
    assert all(split_of(key) == split for split, found in keys.items() for key in found)


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_examples(name: str) -> None:
    task = TASKS[name]
    assert isinstance(task, Task)
    first, again = (task.sample(5, seed=2, split="val") for _ in range(2))
    assert [(e.prompt, e.answer) for e in first] == [(e.prompt, e.answer) for e in again]
    if first[0].image is not None:
        assert first[0].image.tobytes() == again[0].image.tobytes()
    other = task.sample(5, seed=3, split="val")
    assert [e.prompt for e in first] != [e.prompt for e in other] or first[0].image is not None


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="'train', 'val' or 'test'"):
        TASKS["math"].sample(1, seed=0, split="dev")


def test_rewards_are_strict() -> None:
    example = TASKS["math"].sample(1, seed=0)[0]
    worked = f"Let me see. 1 + 1 = 2. The answer is {example.answer}."
    assert TASKS["math"].reward(worked, example) == 1.0
    assert TASKS["math"].reward(example.answer, example) == -1.0
    assert TASKS["reasoning"].reward(example.answer, example) == 1.0
    assert TASKS["code"].reward(worked, example) == -1.0


def test_math_answers_are_true() -> None:
    rng = random.Random(2)
    for maker in (math.easy, math.math, math.math_hard):
        for _ in range(200):
            problem = maker(rng)
            # Operations apply from left to right, and products come first.
            assert eval(problem.expression) == int(problem.answer)
            for left, right in re.findall(r"([\d *+-]+) = (\d+)\.", problem.steps):
                assert eval(left) == int(right)
            assert problem.steps.endswith(f"= {problem.answer}.")


def test_code_answers_are_true() -> None:
    rng = random.Random(2)
    for maker in (code.code, code.code_hard):
        for _ in range(300):
            problem = maker(rng)
            assert str(eval(problem.expression)) == problem.answer != problem.wrong


def test_reasoning_has_one_right_option() -> None:
    for negated, name in ((False, "reasoning"), (True, "reasoning_hard")):
        for example in TASKS[name].sample(100, seed=0):
            category = next(c for c in CATEGORIES if re.search(rf"\ban? {c}\b", example.prompt))
            words = set(re.findall(r"[a-z]+", example.prompt.lower()))
            inside = {w for w in CATEGORIES[category] if w in words}
            outside = {w for c, ws in CATEGORIES.items() if c != category for w in ws if w in words}
            assert (outside if negated else inside) == {example.answer}


def test_words_belong_to_one_category() -> None:
    words = [word for group in CATEGORIES.values() for word in group]
    assert len(words) == len(set(words))


def test_images_come_with_the_image_tasks_only() -> None:
    for task in TASKS.values():
        has_image = task.sample(1, seed=0)[0].image is not None
        assert has_image == (task.maker in (image.read, image.read_hard, image.image_sum))
    assert set(DOMAINS) <= set(TASKS)
