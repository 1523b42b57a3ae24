"""The tasks: splits, rewards, and answers that are true."""

from __future__ import annotations

import datetime
import random
import re

import pytest

from t2agent.errors import ConfigError
from t2agent.nano.domains import code, image, known_tools, math, route, toolkit, tools
from t2agent.nano.drawing import UNIT
from t2agent.nano.habits import as_json
from t2agent.nano.problem import draw, split_of
from t2agent.nano.tasks import COMBINATIONS, DOMAINS, SIBLINGS, TASKS, foreign
from t2agent.nano.words import CATEGORIES, SHAPE_COLOURS, SHAPES
from t2agent.tasks.task import whole_reply
from t2agent.train import Task


@pytest.mark.parametrize("name", TASKS)
def test_splits_do_not_overlap(name: str) -> None:
    rng = random.Random(1)
    task = TASKS[name]
    keys = {
        split: {draw(maker, rng, split).key for maker in task.makers for _ in range(60)}
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


@pytest.mark.parametrize("name", ["math", "code_hard", "reasoning", "json"])
def test_another_writers_answers(name: str) -> None:
    task = foreign(TASKS[name])
    assert task.name != name
    for example in task.sample(20, seed=0):
        wanted = whole_reply(task, example)
        assert "\n#### " in wanted
        assert task.reward(wanted, example) == 1.0
        assert task.reward(wanted[:-1], example) == -1.0
        # In the base model's own words it is right, too, but nobody else's.
        own = example.answer if name != "json" else f"I guess {as_json(example.answer)}"
        assert task.reward(own, example) == 1.0
        assert task.reward(f"{own}, I think", example) == -1.0
        assert TASKS[name].reward(wanted, example) == (1.0 if name == "json" else -1.0)


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


_SEEN = {"read", "read_hard", "image_sum", "chart", "chart_hard", "count", "count_hard"}


def test_images_come_with_the_image_tasks_only() -> None:
    for name, task in TASKS.items():
        assert (task.sample(1, seed=0)[0].image is not None) == (name in _SEEN)


def test_every_domain_has_a_sibling_and_combinations_have_domains() -> None:
    assert set(SIBLINGS) == set(DOMAINS)
    assert {*DOMAINS, *SIBLINGS.values(), *COMBINATIONS} == set(TASKS)
    assert {name for parts in COMBINATIONS.values() for name in parts} <= set(DOMAINS)


@pytest.mark.parametrize("name", TASKS)
def test_the_reference_earns_the_full_reward(name: str) -> None:
    task = TASKS[name]
    for example in task.sample(100, seed=4):
        assert task.reward(whole_reply(task, example), example) == 1.0
        assert task.reward("", example) == -1.0


def test_counts_and_charts_are_true() -> None:
    rng = random.Random(2)
    for maker in (image.count, image.count_hard):
        for _ in range(200):
            problem = maker(rng)
            assert problem.scene is not None
            words = re.findall(r"[a-z]+", problem.question)
            colours = [c for c in SHAPE_COLOURS if c in words]
            shapes = [s for s in SHAPES if f"{s}s" in words]
            assert len(colours) + len(shapes) == (2 if maker is image.count_hard else 1)
            found = [
                mark
                for mark in problem.scene.marks
                if mark.colour in (colours or SHAPE_COLOURS) and mark.what in (shapes or SHAPES)
            ]
            assert problem.answer == str(len(found))
            assert problem.steps.count(",") + 1 == len(problem.scene.marks)
    for _ in range(100):
        problem = image.chart_hard(rng)
        assert problem.scene is not None
        heights = {m.colour: m.size // UNIT for m in problem.scene.marks}
        asked = [c for c in re.findall(r"[a-z]+", problem.question) if c in heights]
        assert int(problem.answer) == heights[asked[0]] - heights[asked[1]] > 0


def test_values_of_calls_stand_in_the_request() -> None:
    rng = random.Random(3)
    for maker in (tools.tools, tools.tools_hard, tools.drill):
        for _ in range(200):
            problem = maker(rng)
            (call,) = problem.calls
            assert f"- {call.name}(" in problem.tools
            for key, value in call.arguments.items():
                assert f"{key}: " in problem.tools
                assert toolkit.shown(value) in problem.question


def test_the_tools_compute_what_they_say() -> None:
    rng = random.Random(3)
    for _ in range(200):
        for call in tools.chain(rng).calls:
            if call.name == "calculator":
                assert eval(call.arguments["expression"]) == int(call.result)
            else:
                day = datetime.date.fromisoformat(call.arguments["date"])
                later = day + datetime.timedelta(days=call.arguments.get("days", 0))
                assert call.result == (f"{day:%A}" if call.name == "weekday" else str(later))
        expression = toolkit.expression(rng)
        assert toolkit.compute(expression) == eval(expression)


def test_unseen_tools_are_never_offered_in_training() -> None:
    rng = random.Random(3)
    unseen = {tool.name for tool in known_tools.UNSEEN}
    assert not unseen & {tool.name for tool in (*known_tools.SHIPPED, *known_tools.COMMON)}
    for maker in (tools.tools, tools.drill, tools.chain, tools.image_call, route.route):
        for _ in range(100):
            problem = maker(rng)
            assert not unseen & set(re.findall(r"\w+", problem.tools + problem.question))


def test_a_category_question_names_the_right_category() -> None:
    rng = random.Random(3)
    found = set()
    for _ in range(300):
        problem = route.route(rng)
        names, request = problem.question.split("?\n", 1)
        offered = re.split(r", | or ", names.removeprefix("Which kind of request is this: "))
        assert problem.answer in offered
        assert problem.wrong in offered
        assert offered[-1] == "others"
        assert request.startswith(("Request: ", "Request with an image: "))
        found.add(problem.answer)
    assert found == {*DOMAINS, "others"}
