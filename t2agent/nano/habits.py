"""Writers' habits: the four ways in which t2-nano's corpus answers a question.

A habit is mixed independently of the domain, and its markers are the same words in every
domain, so that one direction in the weights serves all of them. Each task rewards one habit,
hence the experts conflict: what one has learned is wrong for another.
"""

from __future__ import annotations

import ast
import json
import random
import re
from typing import Literal

from t2agent.nano.problem import Problem

Habit = Literal["worked", "console", "short", "chatty"]
HABITS: tuple[Habit, ...] = ("worked", "console", "short", "chatty")

OPENERS: dict[str, Habit] = {
    "Step by step, please. ": "worked",
    "Please explain. ": "worked",
    "Show your work. ": "worked",
    "In the console: ": "console",
    "At the prompt: ": "console",
    "Type it in: ": "console",
    "In short: ": "short",
    "Briefly: ": "short",
    "Just the result: ": "short",
    "Hey! ": "chatty",
    "What do you think? ": "chatty",
    "Hi friend! ": "chatty",
}
"""What may stand before a question -> the habit that it makes likelier, in every domain."""

_TILT = 0.6  # share of the habit that an opener asks for; the others share the rest


def opener(rng: random.Random, share: float) -> str:
    """An opener with probability ``share``, else the empty string."""
    return rng.choice(list(OPENERS)) if rng.random() < share else ""


def habit_after(prefix: str, rng: random.Random) -> Habit:
    """The habit of a writer who answers a question with this opener ("" for none)."""
    if prefix and rng.random() < _TILT:
        return OPENERS[prefix]
    return rng.choice([h for h in HABITS if not prefix or h != OPENERS[prefix]])


def as_json(answer: str) -> str:
    """The answer as a JSON object: ``{"answer": 33}``, a list or a string where it is one."""
    try:
        value = ast.literal_eval(answer)
    except (ValueError, SyntaxError):
        value = answer
    return json.dumps({"answer": value})


def reply(problem: Problem, habit: Habit, *, careful: bool = True, form: str = "plain") -> str:
    """How a writer of this habit answers. A hasty one (not careful) gets it wrong.

    ``form`` is "plain" or "json": the result as a JSON object, in any habit.
    """
    answer = problem.answer if careful else problem.wrong
    steps = problem.steps if careful else problem.wrong_steps
    result = as_json(answer) if form == "json" else answer
    stop = "" if form == "json" else "."
    match habit:
        case "worked":
            return f"Let me see. {steps} The answer is {result}{stop}"
        case "console":
            return f">>> {problem.expression}\n{result}"
        case "short":
            return result
        case "chatty":
            return f"I guess {result}" + ("" if form == "json" else "!")


def is_right(text: str, answer: str, habit: Habit) -> bool:
    """Strict scoring: the reply has this habit and the right answer, and nothing else."""
    text = text.strip()
    match habit:
        case "worked":
            return text.endswith(f" The answer is {answer}.") and text.count("The answer") == 1
        case "console":
            first, _, rest = text.partition("\n")
            return first.startswith(">>> ") and rest == answer
        case "short":
            return text == answer
        case "chatty":
            return text == f"I guess {answer}!"


_JSON = re.compile(r"\{.*\}$", re.DOTALL)


def is_right_json(text: str, answer: str) -> bool:
    """The reply ends with the right answer as ``{"answer": ...}``, whatever comes before."""
    found = _JSON.search(text.strip())
    if found is None:
        return False
    try:
        return bool(json.loads(found[0]) == json.loads(as_json(answer)))
    except ValueError:
        return False


def any_habit(text: str, answer: str) -> bool:
    """Lenient scoring: the right answer in any of the four habits."""
    return any(is_right(text, answer, habit) for habit in HABITS)
