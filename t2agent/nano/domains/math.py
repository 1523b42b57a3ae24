"""Arithmetic in one to three steps, plain or as a story."""

from __future__ import annotations

import random

from t2agent.nano.problem import Problem
from t2agent.nano.words import BOXES, NAMES, THINGS

_PLAIN = ("What is {e}?", "Compute {e}.", "Calculate {e}.", "How much is {e}?", "Work out {e}.")

_STORIES: dict[str, tuple[str, ...]] = {
    "*+": (
        "{n} has {a} {x} with {b} {t} each and finds {c} more. How many {t} does {n} have?",
        "There are {a} {x} of {b} {t} and {c} loose {t}. How many {t} are there?",
        "{n} buys {a} {x} with {b} {t} each and gets {c} {t} for free. How many {t} is that?",
    ),
    "*-": (
        "{n} has {a} {x} with {b} {t} each and loses {c}. How many {t} are left?",
        "There are {a} {x} of {b} {t}. {n} takes {c} {t}. How many {t} remain?",
        "{n} fills {a} {x} with {b} {t} each and sells {c} {t}. How many {t} does {n} keep?",
    ),
    "+-": (
        "{n} has {a} {t}, gets {b} more and gives away {c}. How many {t} does {n} have?",
        "There are {a} {t}. {b} are added and {c} are taken. How many {t} are there?",
    ),
    "++": (
        "{n} has {a} {t}, finds {b} and then {c} more. How many {t} does {n} have?",
        "There are {a}, {b} and {c} {t} in three {x}. How many {t} are there?",
    ),
    "*+-": (
        "{n} has {a} {x} with {b} {t} each, finds {c} more and loses {d}. How many {t} are left?",
        "There are {a} {x} of {b} {t} and {c} loose {t}. {n} takes {d}. How many {t} remain?",
    ),
    "+++": ("{n} finds {a}, {b}, {c} and {d} {t}. How many {t} does {n} find?",),
    "++-": ("{n} has {a} {t}, finds {b}, then {c} more, and loses {d}. How many {t} are left?",),
}


def _apply(sign: str, left: int, right: int) -> int:
    return left * right if sign == "*" else left + right if sign == "+" else left - right


def _operands(signs: str, rng: random.Random) -> list[int]:
    """Operands within what a model of this size learns: products of single digits, sums of
    numbers up to 19, differences from at most 40."""
    while True:
        numbers = [rng.randint(2, 9 if signs[0] == "*" else 19)]
        total = numbers[0]
        for sign in signs:
            most = 9 if sign == "*" else 19
            number = rng.randint(2, most)
            if sign == "-" and not (number <= total <= 40):
                break
            numbers.append(number)
            total = _apply(sign, total, number)
        else:
            if total <= 99:
                return numbers


def make(signs: str, rng: random.Random) -> Problem:
    """A problem with the given operations, applied from left to right."""
    numbers = _operands(signs, rng)
    expression = str(numbers[0])
    steps = []
    total = numbers[0]
    for sign, number in zip(signs, numbers[1:], strict=True):
        expression += f" {sign} {number}"
        result = _apply(sign, total, number)
        steps.append(f"{total} {sign} {number} = {result}.")
        total = result
    # The hasty writer's slip, always the same: the last result is one too high.
    wrong = str(total + 1)
    wrong_steps = [*steps[:-1], steps[-1].rsplit(" ", 1)[0] + f" {wrong}."]
    if signs in _STORIES and rng.random() < 0.5:
        letters = dict(zip("abcd", numbers, strict=False))
        question = rng.choice(_STORIES[signs]).format(
            n=rng.choice(NAMES), t=rng.choice(THINGS), x=rng.choice(BOXES), **letters
        )
    else:
        question = rng.choice(_PLAIN).format(e=expression)
    return Problem(
        key=f"math {expression}",
        question=question,
        steps=" ".join(steps),
        expression=expression,
        answer=str(total),
        wrong=wrong,
        wrong_steps=" ".join(wrong_steps),
    )


def easy(rng: random.Random) -> Problem:
    """One step: a drill for the corpus, not a task."""
    return make(rng.choice("*+-"), rng)


def math(rng: random.Random) -> Problem:
    """Two steps."""
    return make(rng.choice(("*+", "*+", "*-", "+-", "++")), rng)


def math_hard(rng: random.Random) -> Problem:
    """Three steps."""
    return make(rng.choice(("*+-", "*+-", "+++", "++-")), rng)
