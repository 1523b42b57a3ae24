from __future__ import annotations

import pytest

from t2agent.errors import ConfigError
from t2agent.reward import score
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
