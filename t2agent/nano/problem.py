"""One problem of the embedded base's world: a question, how it is worked out, its answer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from t2agent.nano.drawing import Scene

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with everything that the four habits need to answer it, right or wrong.

    ``steps`` are whole sentences that lead to ``answer``; ``wrong`` and ``wrong_steps`` are
    what a hasty writer makes of it. ``key`` names the problem apart from its wording: problems
    with one key always fall into the same split.
    """

    key: str
    question: str
    steps: str
    expression: str
    answer: str
    wrong: str
    wrong_steps: str
    scene: Scene | None = None


Maker = Callable[[random.Random], Problem]


def split_of(key: str) -> Split:
    """The split that a problem belongs to, by a hash of its key (8 : 1 : 1)."""
    bucket = hashlib.sha256(key.encode()).digest()[0] % 10
    return "test" if bucket == 0 else "val" if bucket == 1 else "train"


def draw(maker: Maker, rng: random.Random, split: Split) -> Problem:
    """A problem of ``split``, by drawing until one falls into it."""
    while True:
        problem = maker(rng)
        if split_of(problem.key) == split:
            return problem
