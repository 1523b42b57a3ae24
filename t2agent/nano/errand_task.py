"""The task that the expert for tools is trained on: calls, and what comes after their results.

`TASKS["tools"]` asks for one call. An agent also meets what a tool has returned, and then has to
call again or to answer; so half of these examples are at some step of an errand.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from t2agent.nano.domains import errands, tools
from t2agent.nano.habits import HABITS, as_call, call_body, is_right, is_right_call, opener, reply
from t2agent.nano.problem import Call, Maker, Problem, Split, draw, sampled
from t2agent.nano.tasks import OPENERS
from t2agent.train import Example

MAKERS: Mapping[Maker, float] = {
    tools.tools: 0.28,
    tools.chain: 0.15,
    tools.image_call: 0.16,
    errands.convert: 0.12,
    errands.count_words: 0.1,
    errands.colour: 0.07,
    errands.sort: 0.05,
    errands.search: 0.03,
    errands.chart: 0.04,
}
"""Kinds of problems and their shares."""


@dataclass(frozen=True, slots=True)
class _Step(Example):
    calling: bool = True


@dataclass(frozen=True, slots=True)
class ErrandTask:
    """The right next step: the call that is due, or the answer in any habit."""

    name: str = "tools"
    max_tokens: int = 80
    makers: tuple[Maker, ...] = tuple(MAKERS)

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of a split ("train", "val" or "test"; no problem is in two of them)."""
        return sampled(self._example, n, "errands", split, seed)

    def _example(self, rng: random.Random, split: Split) -> _Step:
        maker = rng.choices(self.makers, [MAKERS[one] for one in self.makers])[0]
        problem = draw(maker, rng, split)
        prompt = problem.tools + opener(rng, OPENERS) + problem.question
        picture = problem.scene.render() if problem.scene else None
        # After the call of a tool whose result is made up, nothing is left to be known.
        done = 0 if maker is tools.tools else rng.randint(0, len(problem.calls))
        steps = tuple(message for call in problem.calls[:done] for message in _step(call))
        if done < len(problem.calls):
            call = problem.calls[done]
            return _Step(prompt, call_body(call), picture, steps, as_call(call))
        return _Step(prompt, problem.answer, picture, steps, _answer(problem, rng), calling=False)

    def reward(self, reply: str, example: Example) -> float:
        """+1 for the right call or the right answer, else -1 (the paper's reward)."""
        if isinstance(example, _Step) and not example.calling:
            right = is_right(reply, example.answer, None)
        else:
            right = is_right_call(reply, example.answer)
        return 1.0 if right else -1.0


def _answer(problem: Problem, rng: random.Random) -> str:
    return reply(replace(problem, steps=f"The tool says {problem.answer}."), rng.choice(HABITS))


def _step(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call, and what the tool has returned, as messages."""
    function = {"name": call.name, "arguments": dict(call.arguments)}
    asked = {"type": "function", "id": "", "function": function}
    return (
        {"role": "assistant", "content": "", "tool_calls": [asked]},
        {"role": "tool", "name": call.name, "tool_call_id": "", "content": call.result},
    )
