"""What a step learns from, before any gradient is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2agent.tasks.task import Example
from t2agent.train.learner import Row


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was sampled in a step.

    Attributes:
        rewards: those of each prompt's replies.
        lengths: of all replies, in tokens.
        cut: how many replies ``max_tokens`` has cut off.
    """

    rewards: Sequence[Sequence[float]]
    lengths: Sequence[int]
    cut: int


@dataclass(frozen=True, slots=True)
class Lesson:
    """Replies to examples, and what each is worth.

    Attributes:
        examples: what the rows' ``prompt`` counts.
        rows: the replies.
        tokens: of all replies, those too that no row stands for.
        reward: their mean reward; None where nothing was sampled.
        sampled: what was sampled; None where nothing was.
        signal: whether there is anything to learn; where no reply earns more than another, there is
            not.
    """

    examples: Sequence[Example]
    rows: Sequence[Row]
    tokens: int
    reward: float | None = None
    signal: bool = True
    sampled: Sampled | None = None
