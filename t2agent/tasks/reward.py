"""Rewards of replies, and the guard that stands before a user's own reward."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal

from t2agent.errors import ConfigError
from t2agent.tasks.task import Example, Task

RewardFunction = Callable[[str, Example], float]
Reward = Literal["exact", "contains"] | RewardFunction
_SHOWN = 200  # characters of a prompt or reply that an error message quotes


def exact(reply: str, example: Example) -> float:
    """+1 when reply and answer are equal up to white space, else -1 (paper, sec. 3.2)."""
    return 1.0 if reply.split() == example.answer.split() else -1.0


def contains(reply: str, example: Example) -> float:
    """+1 when the answer stands in the reply as whole words, up to white space, else -1.

    Whole words: the answer "3" is in "It is 3." but not in "13" or "3rd".
    """
    answer = re.escape(" ".join(example.answer.split()))
    found = re.search(rf"(?<!\w){answer}(?!\w)", " ".join(reply.split()))
    return 1.0 if found else -1.0


def reward_function(reward: object) -> RewardFunction:
    """`exact` or `contains` by name, else the function. Raises ConfigError for anything else."""
    if reward == "exact":
        return exact
    if reward == "contains":
        return contains
    if callable(reward):
        return reward
    raise ConfigError(
        f"got the reward {reward!r}; needed 'exact', 'contains' or a function of (reply, example)"
    )


def score(task: Task, reply: str, example: Example) -> float:
    """``task.reward`` of a reply, checked.

    Raises:
        ConfigError: the reward raised, or gave something else than a number in [-1, 1]; the
            message quotes the example and the reply.
    """
    try:
        value = float(task.reward(reply, example))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"the reward of task {task.name!r} raised {raised}; for {_where(reply, example)}. "
            "A reward takes (reply, example) and returns a number in [-1, 1], for bad replies too"
        ) from error
    return _in_range(task, value, reply, example)


def scores(task: Task, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """`score` of each reply to the example of the same place.

    A task that has ``rewards`` is asked once for all of them.

    Raises:
        ConfigError: as `score`; or ``rewards`` gave another number of them.
    """
    together = getattr(task, "rewards", None)
    if not callable(together) or not replies:
        return [score(task, *pair) for pair in zip(replies, examples, strict=True)]
    try:
        values = [float(value) for value in together(replies, examples)]
    except Exception as error:
        raise ConfigError(
            f"`rewards` of task {task.name!r} raised {type(error).__name__}: {error}; for "
            f"{len(replies)} replies, the first {_where(replies[0], examples[0])}. It takes "
            "(replies, examples) and returns a number in [-1, 1] for each, for bad replies too"
        ) from error
    if len(values) != len(replies):
        raise ConfigError(
            f"`rewards` of task {task.name!r} returned {len(values)} number(s) for {len(replies)} "
            "replies; it must return one for each"
        )
    rows = zip(values, replies, examples, strict=True)
    return [_in_range(task, *row) for row in rows]


def _in_range(task: Task, value: float, reply: str, example: Example) -> float:
    if math.isnan(value) or not -1.0 <= value <= 1.0:
        raise ConfigError(
            f"the reward of task {task.name!r} returned {value}; for {_where(reply, example)}. "
            "A reward must be a number in [-1, 1]; scale or clip it"
        )
    return value


def _where(reply: str, example: Example) -> str:
    return f"prompt {_quote(example.prompt)}, reply {_quote(reply)}"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
