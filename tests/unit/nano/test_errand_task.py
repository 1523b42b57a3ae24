"""The steps of errands that the expert for tools is trained on."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from t2agent.errors import ConfigError
from t2agent.models.prompt import Prompt
from t2agent.nano.domains import errands, tools
from t2agent.nano.errand_task import MAKERS, ErrandTask
from t2agent.nano.habits import CALL
from t2agent.train import Example, Task

TASK = ErrandTask()


def test_it_is_a_task_whose_references_earn_the_full_reward() -> None:
    assert isinstance(TASK, Task)
    assert sum(MAKERS.values()) == pytest.approx(1.0)
    for example in TASK.sample(200, seed=0, split="val"):
        right = example.reference
        assert TASK.reward(right, example) == 1.0
        assert TASK.reward(right + "x", example) == -1.0
        assert TASK.reward("", example) == -1.0
        if not right.startswith(CALL):
            assert TASK.reward(f"I guess {example.answer}!", example) == 1.0  # any habit will do


def test_examples_are_at_every_step_and_show_what_was_done() -> None:
    task = ErrandTask(makers=(tools.chain, errands.convert))
    done: Counter[int] = Counter()
    for example in task.sample(90, seed=1):
        messages = Prompt.of(example).messages
        assert len(messages) == 1 + len(example.steps)
        roles = [message["role"] for message in example.steps]
        assert roles == ["assistant", "tool"] * (len(roles) // 2)
        done[len(roles) // 2] += 1
        if len(roles) == 4:  # the last result is the answer
            assert example.answer == example.steps[-1]["content"]
        else:
            assert json.loads(example.answer)["name"] in example.prompt
    assert set(done) == {0, 1, 2}


def test_of_tools_with_made_up_results_only_the_call_is_asked() -> None:
    task = ErrandTask(makers=(tools.tools,))
    assert all(not example.steps for example in task.sample(40, seed=2))


def test_splits_never_overlap_and_the_seed_sets_the_draw() -> None:
    prompts = {
        split: {
            (e.prompt.split("\n\n")[1], None if e.image is None else e.image.tobytes())
            for e in TASK.sample(300, seed=3, split=split)
        }
        for split in ("train", "val", "test")
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["val"]
    first, again = (TASK.sample(5, seed=4) for _ in range(2))
    assert [e.prompt for e in first] == [e.prompt for e in again]
    with pytest.raises(ConfigError, match="split 'dev'"):
        TASK.sample(1, seed=0, split="dev")


def test_foreign_examples_are_judged_as_calls() -> None:
    example = Example("hello", '{"name": "x", "arguments": {}}')
    assert TASK.reward("hello", example) == -1.0
