"""Which of a few words belongs to a category, or does not."""

from __future__ import annotations

import random

from t2agent.nano.problem import Problem
from t2agent.nano.words import CATEGORIES

_ASKS = (
    "Which of these is {k}: {o}?",
    "Which one is {k}? Options: {o}.",
    "Look at these words: {o}. Which one is {k}?",
    "Find the word that is {k}: {o}.",
    "Which word is {k}?\nOptions:\n{l}",
)


def _article(category: str) -> str:
    return ("an " if category[0] in "aeiou" else "a ") + category


def make(rng: random.Random, *, negated: bool) -> Problem:
    """Two to four options, one of them right."""
    category = rng.choice(list(CATEGORIES))
    others = [name for name in CATEGORIES if name != category]
    count = rng.randint(2, 3) if negated else rng.randint(3, 4)
    if negated:
        right = rng.choice(CATEGORIES[rng.choice(others)])
        rest = rng.sample(CATEGORIES[category], count)
        kind, step = f"not {_article(category)}", f"{right} is not {_article(category)}."
    else:
        right = rng.choice(CATEGORIES[category])
        rest = [rng.choice(CATEGORIES[name]) for name in rng.sample(others, count - 1)]
        kind, step = _article(category), f"The {category} is {right}."
    options = [right, *rest]
    key = f"reasoning {kind} {sorted(options)}"
    rng.shuffle(options)
    wrong = next(word for word in options if word != right)
    return Problem(
        key=key,
        question=rng.choice(_ASKS).format(
            k=kind,
            o=", ".join(options[:-1]) + " or " + options[-1],
            l="\n".join(
                f"({letter}) {word}" for letter, word in zip("ABCD", options, strict=False)
            ),
        ),
        steps=step,
        expression=f'find("{kind}")',
        answer=right,
        wrong=wrong,
        wrong_steps=step.replace(right, wrong),
    )


def reasoning(rng: random.Random) -> Problem:
    """Which of three or four words belongs to the category."""
    return make(rng, negated=False)


def reasoning_hard(rng: random.Random) -> Problem:
    """Which of three or four words does not."""
    return make(rng, negated=True)
