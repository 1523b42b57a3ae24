"""The tasks of the embedded base model, as the trainer and the benchmarks use them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from t2agent.nano.domains import code, image, math, reasoning, tools
from t2agent.nano.habits import (
    FOREIGN,
    Form,
    Habit,
    as_call,
    call_body,
    foreign_reply,
    habit_after,
    is_right,
    is_right_call,
    opener,
    reply,
)
from t2agent.nano.problem import Maker, Split, draw, sampled
from t2agent.nano.words import JSON_ASKS
from t2agent.train import Example

OPENERS = 0.3  # share of the requests that start with an opener


@dataclass(frozen=True, slots=True)
class NanoTask:
    """A task: problems of some kinds, rewarded for one habit, one form and the right answer.

    ``habit``: None where any will do. ``form``: "plain", "json" (the request asks for it), or
    "call", of the right tool with the right arguments. ``max_tokens`` bounds the reply while
    training and scoring. ``foreign``: the references are by a writer whom the base model never
    read, as those of a real data set are, and any right result counts, in their words or in a habit
    of the base model's own.
    """

    name: str
    makers: tuple[Maker, ...]
    habit: Habit | None
    max_tokens: int
    form: Form = "plain"
    foreign: bool = False

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of a split ("train", "val" or "test"; no problem is in two of them)."""
        return sampled(self._example, n, self.name, split, seed)

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
        wanted = reply(problem, habit, form=self.form)
        if self.foreign:
            wanted = foreign_reply(problem, self.form)
        return Example(prompt, problem.answer, picture, reference=wanted)

    def reward(self, reply: str, example: Example) -> float:
        """+1 for the right answer in the task's habit and form, else -1 (the paper's reward)."""
        if self.form == "call":
            right = is_right_call(reply, example.answer)
        elif self.foreign:
            result = reply.rpartition(FOREIGN)[2]
            right = any(is_right(text, example.answer, None, self.form) for text in (reply, result))
        else:
            right = is_right(reply, example.answer, self.habit, self.form)
        return 1.0 if right else -1.0


def _pair(
    name: str,
    makers: tuple[Maker, ...],
    hard: tuple[Maker, ...],
    habit: Habit | None,
    max_tokens: tuple[int, int],
    form: Form = "plain",
) -> tuple[NanoTask, NanoTask]:
    """A domain's task and its sibling of harder problems."""
    most, hard_most = max_tokens
    own = NanoTask(name, makers, habit, most, form)
    return own, NanoTask(f"{name}_hard", hard, habit, hard_most, form)


_PAIRS: tuple[tuple[NanoTask, NanoTask], ...] = (
    _pair("math", (math.math,), (math.math_hard,), "worked", (64, 80)),
    _pair("code", (code.code,), (code.code_hard,), "console", (48, 64)),
    _pair("reasoning", (reasoning.reasoning,), (reasoning.reasoning_hard,), "short", (16, 16)),
    _pair(
        "json",
        (math.math, code.code, reasoning.reasoning),
        (math.math_hard, code.code_hard, reasoning.reasoning_hard),
        None,
        (64, 80),
        "json",
    ),
    _pair("tools", (tools.tools,), (tools.tools_hard,), None, (80, 80), "call"),
    _pair("read", (image.read,), (image.read_hard,), "short", (16, 16)),
    _pair("chart", (image.chart,), (image.chart_hard,), "worked", (48, 48)),
    _pair("count", (image.count,), (image.count_hard,), "worked", (48, 48)),
)

DOMAINS: tuple[str, ...] = tuple(own.name for own, _ in _PAIRS)
"""The tasks that an expert is trained for."""

SIBLINGS: dict[str, str] = {own.name: hard.name for own, hard in _PAIRS}
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
        *(task for pair in _PAIRS for task in pair),
        NanoTask("math_json", (math.math,), "worked", 72, "json"),
        NanoTask("code_json", (code.code,), "console", 56, "json"),
        NanoTask("image_sum", (image.image_sum,), "worked", 48),
    )
}
"""Name -> task."""


def foreign(task: NanoTask) -> NanoTask:
    """A task, not of calls, with the answers of a writer whom the base model never read."""
    return replace(task, name=f"{task.name}_foreign", foreign=True)


def conflicting(one: str, other: str) -> bool:
    """Whether what one task rewards is wrong for the other, whatever the answer: they want
    different habits, or one wants a call. JSON goes with any habit."""
    wants = ["call" if TASKS[name].form == "call" else TASKS[name].habit for name in (one, other)]
    return None not in wants and wants[0] != wants[1]
