from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2agent.errors import ConfigError
from t2agent.tasks.task import SPLITS
from t2agent.train import Example, ExampleTask

prompts = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=60)


def make(texts: list[str]) -> ExampleTask:
    return ExampleTask("t", [Example(text, f"a{i}") for i, text in enumerate(texts)])


@given(prompts)
def test_splits_are_disjoint_by_prompt_and_complete(texts: list[str]) -> None:
    task = make(texts)
    parts = {split: {e.prompt for e in task.split(split)} for split in SPLITS}
    assert sum(len(task.split(split)) for split in SPLITS) == len(texts) == len(task)
    assert set().union(*parts.values()) == set(texts)
    assert not (parts["train"] & parts["val"])
    assert not (parts["train"] & parts["test"])
    assert not parts["val"] & parts["test"]


@given(prompts)
def test_few_examples_still_train_and_validate(texts: list[str]) -> None:
    task, different = make(texts), len(set(texts))
    filled = [split for split in SPLITS if task.split(split)]
    assert filled == list(SPLITS[: min(different, 3)])


def test_shares_and_stability() -> None:
    task = make([f"question {i}" for i in range(2000)])
    assert 1520 < len(task.split("train")) < 1680
    assert 150 < len(task.split("val")) < 250
    grown = make([f"question {i}" for i in range(2500)])
    for split in SPLITS:
        assert set(task.split(split)) <= set(grown.split(split))


def test_the_image_counts_as_part_of_the_prompt() -> None:
    images = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(200)]
    task = ExampleTask("t", [Example("What is it?", "x", image) for image in images])
    assert all(task.split(split) for split in SPLITS)
    same = ExampleTask("t", [Example("What is it?", str(i), images[0]) for i in range(200)])
    assert len(same.split("train")) == 200


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_sampling_is_a_function_of_the_seed(n: int, seed: int) -> None:
    task = make([f"question {i}" for i in range(20)])
    drawn = task.sample(n, seed=seed)
    assert drawn == task.sample(n, seed=seed)
    pool = task.split("train")
    assert len(drawn) == n
    assert set(drawn) <= set(pool)
    assert len(set(drawn)) == min(n, len(pool))


def test_other_seeds_draw_others() -> None:
    task = make([f"question {i}" for i in range(200)])
    assert task.sample(10, seed=1) != task.sample(10, seed=2)


@pytest.mark.parametrize(
    ("reward", "reply", "value"),
    [
        ("exact", " 4\n2 ", 1.0),
        ("exact", "42", -1.0),
        ("contains", "It is 4   2.", 1.0),
        ("contains", "It is 14 2", -1.0),
        ("contains", "", -1.0),
        (lambda reply, example: len(reply) / 10, "abcde", 0.5),
    ],
)
def test_rewards(reward: object, reply: str, value: float) -> None:
    example = Example("What?", "4 2")
    assert ExampleTask("t", [example], reward).reward(reply, example) == value  # type: ignore[arg-type]


def test_contains_takes_the_answer_literally() -> None:
    example = Example("What?", "a.c (x)")
    task = ExampleTask("t", [example], "contains")
    assert task.reward("so: a.c (x)!", example) == 1.0
    assert task.reward("so: abc (x)!", example) == -1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", [Example("a", "b")]), "name"),
        (("t", []), "no examples"),
        (("t", [Example("a", "b")], "fuzzy"), "'exact', 'contains'"),
        (("t", [Example("a", " ")], "contains"), "empty"),
    ],
)
def test_unusable_tasks(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExampleTask(*arguments)  # type: ignore[arg-type]


def test_unknown_and_empty_splits() -> None:
    task = make(["only one"])
    with pytest.raises(ConfigError, match="train, val, test"):
        task.sample(1, seed=0, split="dev")
    with pytest.raises(ConfigError, match="at least 2 different prompts"):
        task.sample(1, seed=0, split="val")


@pytest.mark.parametrize(("prompt", "answer"), [("", "b"), ("  ", "b"), (3, "b"), ("a", 3)])
def test_bad_examples(prompt: object, answer: object) -> None:
    with pytest.raises(ConfigError, match="needed a string"):
        Example(prompt, answer)  # type: ignore[arg-type]
