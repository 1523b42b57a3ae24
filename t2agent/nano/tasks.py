"""The tasks of the embedded base model, as the trainer and the benchmarks use them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from t2agent.errors import ConfigError
from t2agent.nano.domains import code, image, math, reasoning
from t2agent.nano.habits import Habit, is_right, opener
from t2agent.nano.problem import Maker, Split, draw
from t2agent.train import Example

_OPENERS = 0.3  # share of the requests that start with an opener


@dataclass(frozen=True, slots=True)
class NanoTask:
    """A task: problems of one kind, rewarded for one habit and the right answer.

    ``max_tokens`` bounds the reply while training and scoring.
    """

    name: str
    maker: Maker
    habit: Habit
    max_tokens: int

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of a split ("train", "val" or "test"; no problem is in two of them)."""
        if split not in ("train", "val", "test"):
            raise ConfigError(f"got split {split!r}; needed 'train', 'val' or 'test'")
        rng = random.Random(f"{self.name} {split} {seed}")
        return [self._example(rng, split) for _ in range(n)]  # type: ignore[arg-type]

    def _example(self, rng: random.Random, split: Split) -> Example:
        problem = draw(self.maker, rng, split)
        prompt = opener(rng, _OPENERS) + problem.question
        picture = problem.scene.render() if problem.scene else None
        return Example(prompt, problem.answer, picture)

    def reward(self, reply: str, example: Example) -> float:
        """+1 for the right answer in the task's habit, else -1 (the paper's reward)."""
        return 1.0 if is_right(reply, example.answer, self.habit) else -1.0


TASKS: dict[str, NanoTask] = {
    task.name: task
    for task in (
        NanoTask("math", math.math, "worked", 64),
        NanoTask("code", code.code, "console", 48),
        NanoTask("reasoning", reasoning.reasoning, "short", 16),
        NanoTask("read", image.read, "short", 16),
        NanoTask("math_hard", math.math_hard, "worked", 80),
        NanoTask("code_hard", code.code_hard, "console", 64),
        NanoTask("reasoning_hard", reasoning.reasoning_hard, "short", 16),
        NanoTask("read_hard", image.read_hard, "short", 16),
        NanoTask("image_sum", image.image_sum, "worked", 48),
    )
}
"""Name -> task. Those ending in ``_hard``, and ``image_sum``, have no expert of their own."""

DOMAINS: tuple[str, ...] = ("math", "code", "reasoning", "read")
"""The tasks that an expert is trained for."""
