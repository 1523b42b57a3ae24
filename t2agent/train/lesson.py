"""What a step learns from, before any gradient is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2agent.tasks.task import Example
from t2agent.train.learner import Row


@dataclass(frozen=True, slots=True)
class Lesson:
    """Replies to examples, and what each is worth.

    Attributes:
        examples: what the rows' ``prompt`` counts.
        rows: the replies.
        tokens: of all replies, those too that no row stands for.
        reward: their mean reward; None where nothing was sampled.
        signal: whether there is anything to learn; where no reply earns more than another, there is
            not.
    """

    examples: Sequence[Example]
    rows: Sequence[Row]
    tokens: int
    reward: float | None = None
    signal: bool = True
