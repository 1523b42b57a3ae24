from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from t2agent.errors import ConfigError
from t2agent.tasks.reward import score, scores
from t2agent.tasks.rewards.choice import reward_function
from t2agent.tasks.rewards.fields import last_json
from t2agent.train import Example, ExampleTask

EXAMPLE = Example("What is 6 * 7?", "42")


def task(reward: object) -> ExampleTask:
    return ExampleTask("sums", [EXAMPLE], reward)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 0.25, 1, True])
def test_numbers_in_range_pass(value: float) -> None:
    assert score(task(lambda reply, example: value), "42", EXAMPLE) == float(value)


@pytest.mark.parametrize("value", [1.5, -2, float("nan"), float("inf")])
def test_numbers_out_of_range_are_named(value: float) -> None:
    with pytest.raises(ConfigError, match=r"'sums' returned .*6 \* 7.*reply 'x'"):
        score(task(lambda reply, example: value), "x", EXAMPLE)


@pytest.mark.parametrize("value", [None, "good", [1]])
def test_what_is_no_number_is_an_error(value: object) -> None:
    with pytest.raises(ConfigError, match="reward of task 'sums' raised"):
        score(task(lambda reply, example: value), "x", EXAMPLE)


def test_an_exception_names_the_example_and_keeps_its_cause() -> None:
    def broken(reply: str, example: Example) -> float:
        return {}[reply]  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match=r"KeyError.*6 \* 7") as caught:
        score(task(broken), "y" * 1000, EXAMPLE)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(str(caught.value)) < 2000


def test_an_interrupt_is_not_an_error_of_the_reward() -> None:
    def interrupted(reply: str, example: Example) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(task(interrupted), "x", EXAMPLE)


class Together(ExampleTask):
    """Judges many replies at once, and not one by one."""

    def __init__(self, values: object) -> None:
        super().__init__("together", [EXAMPLE])
        self.values, self.asked = values, 0

    def reward(self, reply: str, example: Example) -> float:
        raise AssertionError("asked one by one")

    def rewards(self, replies: Sequence[str], examples: Sequence[Example]) -> Any:
        self.asked += 1
        return self.values(replies, examples) if callable(self.values) else self.values


def test_many_replies_are_judged_one_by_one_or_together() -> None:
    replies, examples = ["42", "no"], [EXAMPLE, EXAMPLE]
    assert scores(task("exact"), replies, examples) == [1.0, -1.0]
    together = Together(lambda replies, examples: [int(reply == "42") for reply in replies])
    found = scores(together, replies, examples)
    assert found == [1.0, 0.0]
    assert all(type(value) is float for value in found)
    assert together.asked == 1
    assert scores(together, [], []) == scores(task("exact"), [], []) == []
    assert together.asked == 1


def test_what_is_called_rewards_and_is_no_method_does_not_count() -> None:
    kept = task("exact")
    kept.rewards = []  # type: ignore[attr-defined]
    assert scores(kept, ["42"], [EXAMPLE]) == [1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "returned 1 number.* for 2 replies"),
        ([1.0, 0.0, 0.0], "returned 3 number.* for 2 replies"),
        ([0.0, 1.5], r"'together' returned 1\.5; .*6 \* 7.*reply 'b'"),
        ([0.0, float("nan")], "returned nan"),
        ([0.0, "good"], "`rewards` of task 'together' raised ValueError"),
        (None, "raised TypeError"),
        (lambda replies, examples: {}[replies[0]], r"KeyError.* 2 replies, the first .*6 \* 7"),
    ],
)
def test_bad_rewards_of_many_replies_are_named(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scores(Together(values), ["a", "b"], [EXAMPLE, EXAMPLE])


def test_an_interrupt_is_not_an_error_of_rewards() -> None:
    def interrupted(replies: object, examples: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores(Together(interrupted), ["a"], [EXAMPLE])


def test_replies_and_examples_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        scores(task("exact"), ["a", "b"], [EXAMPLE])


def found(reward: str, reply: str, answer: str, others: Sequence[str] = ()) -> float:
    """What a reward by name gives a reply, with other answers beside this one."""
    examples = [Example(f"{text}?", text) for text in (answer, *others)]
    return reward_function(reward, examples)(reply, examples[0])


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("Let me see. 3 * 4 = 12. The answer is 12.", "12", True),
        ("12 of 13", "12", False),  # the last one counts
        ("It costs $1,234.50!", "1234.5", True),
        ("It is -3.", "3", False),
        ("None.", "3", False),
        ('{"answer": 7}', "7", True),
    ],
)
def test_a_number_is_the_last_in_the_reply(reply: str, answer: str, right: bool) -> None:
    for reward in ("number", "auto"):
        assert found(reward, reply, answer) == (1.0 if right else -1.0)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Positive.", True),
        ("I would say it is positive!", True),
        ("positive or negative", False),
        ("not positive", False),  # another label
        ("Negative.", False),
        ("positively", False),
        ("", False),
    ],
)
def test_a_label_is_named_alone(reply: str, right: bool) -> None:
    others = ["negative", "not positive", "negative", "positive", "positive"]
    for reward in ("label", "auto"):
        assert found(reward, reply, "positive", others) == (1.0 if right else -1.0)


def test_labels_of_one_letter_are_told_from_articles() -> None:
    assert found("label", "It is a B.", "B", ["A"]) == 1.0
    assert found("label", "It is a b.", "B", ["A"]) == -1.0


@pytest.mark.parametrize(
    ("reply", "answer", "value"),
    [
        ('Let me see. The answer is {"answer": 7.0}', '{"answer": 7}', 1.0),
        ('{"answer": true}', '{"answer": 1}', -1.0),
        ('{"name": "buy", "n": 2}', '{"name": "buy", "n": 3}', 0.0),
        ('{"name": "buy", "n": 3, "x": 1, "y": 2}', '{"name": "buy", "n": 3}', 0.0),
        (">>> sorted([2, 1])\n[1, 2]", "[1, 2]", 1.0),
        ("[1, 2", "[1, 2]", -1.0),
        ("7", '{"answer": 7}', -1.0),
        ('{"a": {"b": [1]}}', '{"a": {"b": [1]}}', 1.0),
    ],
)
def test_the_fields_of_json(reply: str, answer: str, value: float) -> None:
    for reward in ("json", "auto"):
        assert found(reward, reply, answer) == value


def test_the_last_json_that_is_not_within_another() -> None:
    assert last_json('{"a": [1]} and {"b": [2]} {') == {"b": [2]}
    assert last_json("[" * 5_000) is None


def test_words_are_found_but_not_in_replies_that_say_everything() -> None:
    others = ["pear", "zinc", "tram", "lion"]
    assert found("auto", "The fruit is Lemon.", "lemon", others) == 1.0
    assert found("auto", "The fruit is pear.", "lemon", others) == -1.0
    assert found("auto", "lemon, pear, zinc, tram, lion", "lemon", others) == -1.0
    assert found("auto", "lemon " + "and so on " * 30, "lemon", others) == -1.0
    assert found("contains", "lemon " + "and so on " * 30, "lemon", others) == 1.0


def test_each_answer_is_judged_by_its_own_look() -> None:
    others = ["4", "[1, 2]", "True", ""]
    assert found("auto", "The answer is False.", "False", others) == 1.0
    assert found("auto", "True or False", "False", others) == -1.0
    assert found("auto", "", "", others) == 1.0
    assert found("auto", "4", "", others) == -1.0


@pytest.mark.parametrize(("reward", "answer"), [("number", "four"), ("json", "4")])
def test_a_reward_that_does_not_find_the_answer_in_itself(reward: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=f"'{reward}' does not find the answer to 'What"):
        ExampleTask("sums", [Example("What?", answer)], reward)  # type: ignore[arg-type]
