"""One problem of the embedded base's world: a question, how it is worked out, its answer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from t2agent.errors import ConfigError
from t2agent.nano.drawing import Scene
from t2agent.tasks.task import Example

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, and the text that the tool gives back."""

    name: str
    arguments: Mapping[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with everything that the four habits need to answer it, right or wrong.

    ``steps`` are whole sentences that lead to ``answer``; ``wrong`` and ``wrong_steps`` are
    what a hasty writer makes of it. ``key`` names the problem apart from its wording: problems
    with one key always fall into the same split. Where tools are offered, ``tools`` shows them,
    ``calls`` are those that lead to the answer, one after the other, and ``wrong_call`` is what a
    hasty writer calls. ``forms``: whether the result may also be wanted as JSON.
    """

    key: str
    question: str
    steps: str
    expression: str
    answer: str
    wrong: str
    wrong_steps: str
    scene: Scene | None = None
    tools: str = ""
    calls: tuple[Call, ...] = ()
    wrong_call: Call | None = None
    forms: bool = True


Maker = Callable[[random.Random], Problem]


def sampled(
    make: Callable[[random.Random, Split], Example], n: int, of: str, split: str, seed: int
) -> list[Example]:
    """``n`` examples of a split; ``of`` names the task. Raises ConfigError for another split."""
    if split not in ("train", "val", "test"):
        raise ConfigError(f"got split {split!r}; needed 'train', 'val' or 'test'")
    rng = random.Random(f"{of} {split} {seed}")
    return [make(rng, split) for _ in range(n)]  # type: ignore[arg-type]


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
