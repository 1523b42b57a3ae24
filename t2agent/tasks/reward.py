"""The rewards that a task gives, asked for and checked. Those by name are in `tasks.rewards`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from t2agent.errors import ConfigError
from t2agent.tasks.task import Example, Task

_SHOWN = 200  # characters of a prompt or reply that an error message quotes
_ROUNDING = 1e-9  # of a mean with weights


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


def is_right(reward: float) -> bool:
    """Whether a reply is right, of which the reward is known: it earned all there is, 1.

    What is between -1 and 1 is for training: a reply with three of four fields is not right.
    """
    return reward >= 1.0 - _ROUNDING


def scores(task: Task, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """`score` of each reply to the example of the same place.

    A task that has ``rewards`` is asked once for all of them.

    Raises:
        ConfigError: as `score`; or ``rewards`` gave another number of them.
    """
    together = getattr(task, "rewards", None)
    pairs = list(zip(replies, examples, strict=True))
    if not callable(together) or not replies:
        return [score(task, *pair) for pair in pairs]
    try:
        values = [float(value) for value in together(replies, examples)]
    except ConfigError:
        raise  # it says what is wrong, and of which reply
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
    return [_in_range(task, value, *pair) for value, pair in zip(values, pairs, strict=True)]


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
