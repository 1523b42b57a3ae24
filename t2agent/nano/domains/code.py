"""What a short Python expression over a list returns."""

from __future__ import annotations

import random
from collections.abc import Sequence

from t2agent.nano.problem import Problem
from t2agent.nano.words import CATEGORIES

_ASKS = (
    "What does {e} return?",
    "What is the output of print({e})?",
    "Evaluate {e} in Python.",
    "What is the value of {e}?",
    "Run {e} and give the result.",
)
_WORDS = tuple(word for words in CATEGORIES.values() for word in words)


def _digits(rng: random.Random, least: int = 3, most: int = 5) -> list[int]:
    return [rng.randint(0, 9) for _ in range(rng.randint(least, most))]


def _problem(
    rng: random.Random, expression: str, value: object, wrong: object, step: str
) -> Problem:
    answer, wrong_answer = str(value), str(wrong)
    if wrong_answer == answer:
        wrong_answer = "None"
    return Problem(
        key=f"code {expression}",
        question=rng.choice(_ASKS).format(e=expression),
        steps=step,
        expression=expression,
        answer=answer,
        wrong=wrong_answer,
        wrong_steps=step,
    )


def _one_operation(rng: random.Random, kinds: Sequence[int]) -> Problem:
    x = _digits(rng)
    match rng.choice(kinds):
        case 0:
            return _problem(rng, f"sorted({x})", sorted(x), x, "Smallest first.")
        case 1:
            return _problem(rng, f"max({x})", max(x), x[0], "The largest item counts.")
        case 2:
            return _problem(rng, f"min({x})", min(x), x[0], "The smallest item counts.")
        case 3:
            return _problem(rng, f"len({x})", len(x), len(x) + 1, "Count the items.")
        case 4:
            return _problem(rng, f"{x}[::-1]", x[::-1], x, "Last item first.")
        case 5:
            i = rng.choice((0, 1, 2, -1))
            return _problem(rng, f"{x}[{i}]", x[i], x[i - 1], "Positions start at 0.")
        case 6:
            i = rng.choice((0, 1, 2, -1))
            w = rng.sample(_WORDS, 3)
            text = "[" + ", ".join(f'"{word}"' for word in w) + "]"
            return _problem(rng, f"{text}[{i}]", w[i], w[i - 1], "Positions start at 0.")
        case 7:
            a, b = _digits(rng, 1, 3), _digits(rng, 1, 3)
            return _problem(rng, f"{a} + {b}", a + b, b + a, "Put one list after the other.")
        case _:
            n = rng.choice((rng.choice(x), rng.randint(0, 9)))
            return _problem(rng, f"{n} in {x}", n in x, n not in x, "Look for the item.")


def code(rng: random.Random) -> Problem:
    """One operation on one list."""
    return _one_operation(rng, range(9))


def drill(rng: random.Random) -> Problem:
    """Picking a number or a word by its place, looking for an item, which are learned last: a
    drill for the corpus, not a task."""
    return _one_operation(rng, (5, 6, 6, 8, 8))


def code_hard(rng: random.Random) -> Problem:
    """Two operations, one inside the other."""
    x = _digits(rng)
    a, b = _digits(rng, 1, 3), _digits(rng, 1, 2)
    match rng.randrange(6):
        case 0:
            return _problem(rng, f"sorted({x})[0]", min(x), x[0], "Smallest first.")
        case 1:
            return _problem(rng, f"sorted({x})[-1]", max(x), x[-1], "Smallest first.")
        case 2:
            value = sorted(x)[::-1]
            return _problem(rng, f"sorted({x})[::-1]", value, sorted(x), "Largest first.")
        case 3:
            return _problem(rng, f"len({a} + {b})", len(a + b), len(a), "Count the items.")
        case 4:
            return _problem(rng, f"max({a} + {b})", max(a + b), a[0], "The largest item counts.")
        case _:
            return _problem(rng, f"sorted({a} + {b})", sorted(a + b), a + b, "Smallest first.")
