"""Writers' habits: the four ways in which t2-nano's corpus answers a question.

A habit is mixed independently of the domain, and its markers are the same words in every
domain, so that one direction in the weights serves all of them. Each task rewards one habit,
hence the experts conflict: what one has learned is wrong for another.
"""

from __future__ import annotations

import ast
import json
import random
from typing import Literal

from t2agent.nano.problem import Call, Problem
from t2agent.nano.processor import CALL, CALL_END

Habit = Literal["worked", "console", "short", "chatty"]
Form = Literal["plain", "json", "call"]
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


def call_body(call: Call) -> str:
    """A call of a tool as JSON."""
    return json.dumps({"name": call.name, "arguments": dict(call.arguments)})


def as_call(call: Call) -> str:
    """A call of a tool, as a reply."""
    return f"{CALL}\n{call_body(call)}\n{CALL_END}"


def reply(problem: Problem, habit: Habit, *, careful: bool = True, form: Form = "plain") -> str:
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


FOREIGN = "#### "
"""What stands before the result in the answers of a writer of none of these habits."""


def foreign_reply(problem: Problem, form: Form = "plain") -> str:
    """How a writer of none of the habits answers: as the solutions of GSM8K end."""
    result = as_json(problem.answer) if form == "json" else problem.answer
    return f"{problem.steps}\n{FOREIGN}{result}"


def is_right(text: str, answer: str, habit: Habit | None, form: Form = "plain") -> bool:
    """Strict scoring: the reply has this habit and form and the right answer, and nothing else.

    Of a result in JSON, spaces do not count; with no habit, whatever comes before it does not.
    """
    text = text.strip()
    if form == "json":
        result = text[text.find("{") :] if "{" in text else ""
        if not _is_json(result, answer):
            return False
        before = text.removesuffix(result)
        match habit:
            case "worked":
                return before.startswith("Let me see. ") and before.endswith(" The answer is ")
            case "console":
                return before.startswith(">>> ") and before.find("\n") == len(before) - 1
            case "short":
                return not before
            case "chatty":
                return before == "I guess "
            case None:
                return True
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
        case None:
            return any(is_right(text, answer, one) for one in HABITS)


def _is_json(text: str, answer: str) -> bool:
    try:
        found, wanted = json.loads(text), json.loads(as_json(answer))
    except ValueError:
        return False
    # 1 and true are equal in Python.
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def is_right_call(text: str, body: str) -> bool:
    """The reply is one call, of the tool and with the arguments of ``body`` (JSON)."""
    text = text.strip()
    if not (text.startswith(CALL) and text.endswith(CALL_END)):
        return False
    try:
        found = json.loads(text[len(CALL) : -len(CALL_END)])
    except ValueError:
        return False
    return json.dumps(found, sort_keys=True) == json.dumps(json.loads(body), sort_keys=True)
