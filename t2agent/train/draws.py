"""Which examples a training run has: all draws depend on its seed and the step only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from t2agent.errors import ConfigError
from t2agent.tasks.task import Example, Task, distinct, example_key
from t2agent.train.course import count_of

_CARD_EXAMPLES = 64


def examples_for(task: Task, seed: int, validation: int) -> tuple[list[Example], list[Example]]:
    """The examples to validate on, and some of those to train on, as a run with this seed has
    them."""
    return (
        distinct(drawn_for(task, validation, seed, "val")),
        distinct(drawn_for(task, _CARD_EXAMPLES, seed, "train")),
    )


def data_fingerprint(task: Task, validation: Sequence[Example], examples: Sequence[Example]) -> str:
    """A hash of a task's data: of how many examples it has, and of these."""
    digest = hashlib.sha256(repr(count_of(task)).encode())
    for example in (*validation, *examples):
        digest.update(example_key(example) + example.answer.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def drawn_for(task: Task, n: int, seed: int, split: str, step: int = 0) -> list[Example]:
    """The examples of a step, by the run's seed.

    Raises ConfigError where the task has none.
    """
    examples = list(task.sample(n, seed=seed_of(seed, split, step), split=split))
    if not examples:
        raise ConfigError(f"task {task.name!r} gave no examples of split {split!r}")
    return examples


def seed_of(seed: int, *parts: object) -> int:
    """A seed of its own for a part of a run."""
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
