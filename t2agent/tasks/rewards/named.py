"""What a reward by name is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from t2agent.tasks.task import Example

RewardFunction = Callable[[str, Example], float]
"""A reply's worth, in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class NamedReward:
    """A reward by name, itself a `RewardFunction`.

    Attributes:
        name: what it is called, such as "json", or "label of 2" by what it was made of.
        judge: the reward of a reply.
        lacks: what an example lacks to be judged so, "" where that is nothing.
        earned_by_saying_everything: the names of the rewards in it that are.
        together: the rewards of many replies, where that is faster than one by one.
    """

    name: str
    judge: RewardFunction
    lacks: Callable[[Example], str]
    earned_by_saying_everything: tuple[str, ...] = ()
    together: Callable[[Sequence[str], Sequence[Example]], list[float]] | None = None

    def __call__(self, reply: str, example: Example) -> float:
        """The reward of a reply."""
        return self.judge(reply, example)

    def many(self, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """The rewards of many replies, each to the example of the same place."""
        if self.together is not None:
            return self.together(replies, examples)
        return [self.judge(*pair) for pair in zip(replies, examples, strict=True)]


def strings_of(example: Example, *names: str) -> tuple[str, ...]:
    """The first of these fields of an example's row that is a list of strings; none without."""
    for name in names:
        given = example.other.get(name)
        if given and isinstance(given, list | tuple) and all(isinstance(t, str) for t in given):
            return tuple(given)
    return ()


def sign(right: object) -> float:
    """+1 for what is right, else -1."""
    return 1.0 if right else -1.0
