"""The tasks of the embedded base model, as the trainer and the benchmarks use them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from t2agent.errors import ConfigError
from t2agent.nano.domains import code, image, math, reasoning, tools
from t2agent.nano.habits import (
    Form,
    Habit,
    as_call,
    call_body,
    habit_after,
    is_right,
    is_right_call,
    opener,
    reply,
)
from t2agent.nano.problem import Maker, Split, draw
from t2agent.nano.words import JSON_ASKS
from t2agent.train import Example

OPENERS = 0.3  # share of the requests that start with an opener


@dataclass(frozen=True, slots=True)
class NanoTask:
    """A task: problems of some kinds, rewarded for one habit, one form and the right answer.

    ``habit``: None where any will do. ``form``: "plain", "json" (the request asks for it), or
    "call", of the right tool with the right arguments. ``max_tokens`` bounds the reply while
    training and scoring.
    """

    name: str
    makers: tuple[Maker, ...]
    habit: Habit | None
    max_tokens: int
    form: Form = "plain"

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of a split ("train", "val" or "test"; no problem is in two of them)."""
        if split not in ("train", "val", "test"):
            raise ConfigError(f"got split {split!r}; needed 'train', 'val' or 'test'")
        rng = random.Random(f"{self.name} {split} {seed}")
        return [self._example(rng, split) for _ in range(n)]  # type: ignore[arg-type]

    def _example(self, rng: random.Random, split: Split) -> Example:
        problem = draw(rng.choice(self.makers), rng, split)
        before = opener(rng, OPENERS)
        ask = rng.choice(JSON_ASKS) if self.form == "json" else ""
        prompt = problem.tools + before + ask + problem.question
        picture = problem.scene.render() if problem.scene else None
        if self.form == "call":
            call = problem.calls[0]
            return Example(prompt, call_body(call), picture, reference=as_call(call))
        habit = self.habit or habit_after(before, rng)
        return Example(
            prompt, problem.answer, picture, reference=reply(problem, habit, form=self.form)
        )

    def reward(self, reply: str, example: Example) -> float:
        """+1 for the right answer in the task's habit and form, else -1 (the paper's reward)."""
        if self.form == "call":
            right = is_right_call(reply, example.answer)
        else:
            right = is_right(reply, example.answer, self.habit, self.form)
        return 1.0 if right else -1.0


_BY_DOMAIN: dict[str, tuple[NanoTask, NanoTask]] = {
    own.name: (own, sibling)
    for own, sibling in (
        (
            NanoTask("math", (math.math,), "worked", 64),
            NanoTask("math_hard", (math.math_hard,), "worked", 80),
        ),
        (
            NanoTask("code", (code.code,), "console", 48),
            NanoTask("code_hard", (code.code_hard,), "console", 64),
        ),
        (
            NanoTask("reasoning", (reasoning.reasoning,), "short", 16),
            NanoTask("reasoning_hard", (reasoning.reasoning_hard,), "short", 16),
        ),
        (
            NanoTask("json", (math.math, code.code, reasoning.reasoning), None, 64, "json"),
            NanoTask(
                "json_hard",
                (math.math_hard, code.code_hard, reasoning.reasoning_hard),
                None,
                80,
                "json",
            ),
        ),
        (
            NanoTask("tools", (tools.tools,), None, 80, "call"),
            NanoTask("tools_hard", (tools.tools_hard,), None, 80, "call"),
        ),
        (
            NanoTask("read", (image.read,), "short", 16),
            NanoTask("read_hard", (image.read_hard,), "short", 16),
        ),
        (
            NanoTask("chart", (image.chart,), "worked", 48),
            NanoTask("chart_hard", (image.chart_hard,), "worked", 48),
        ),
        (
            NanoTask("count", (image.count,), "worked", 48),
            NanoTask("count_hard", (image.count_hard,), "worked", 48),
        ),
    )
}

DOMAINS: tuple[str, ...] = tuple(_BY_DOMAIN)
"""The tasks that an expert is trained for."""

SIBLINGS: dict[str, str] = {name: pair[1].name for name, pair in _BY_DOMAIN.items()}
"""Domain -> its harder sibling, for which no expert is trained."""

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "math_json": ("math", "json"),
    "code_json": ("code", "json"),
    "image_sum": ("read", "math"),
}
"""Tasks that need what several experts have learned -> these experts."""

TASKS: dict[str, NanoTask] = {
    task.name: task
    for task in (
        *(task for pair in _BY_DOMAIN.values() for task in pair),
        NanoTask("math_json", (math.math,), "worked", 72, "json"),
        NanoTask("code_json", (code.code,), "console", 56, "json"),
        NanoTask("image_sum", (image.image_sum,), "worked", 48),
    )
}
"""Name -> task."""


def conflicting(one: str, other: str) -> bool:
    """Whether what one task rewards is wrong for the other, whatever the answer: they want
    different habits, or one wants a call. JSON goes with any habit."""
    wants = ["call" if TASKS[name].form == "call" else TASKS[name].habit for name in (one, other)]
    return None not in wants and wants[0] != wants[1]
