"""Questions about an image: numbers and bar charts."""

from __future__ import annotations

import random

from t2agent.nano.drawing import SIZE, UNIT, Mark, Scene, digit_width
from t2agent.nano.problem import Problem
from t2agent.nano.words import COLOURS

_READ = (
    "What number is in the image?",
    "Which number do you see in the image?",
    "Read the number in the picture.",
    "What number does the picture show?",
)
_SUM = (
    "What is the sum of the two numbers in the image?",
    "Add the two numbers in the picture.",
    "The image shows two numbers. How much are they together?",
)
_HEIGHT = (
    "How high is the {c} bar in the chart?",
    "What is the value of the {c} bar?",
    "Look at the bar chart. How high is the {c} bar?",
)
_TALLEST = ("Which bar is the tallest in the chart?", "What is the colour of the tallest bar?")


def _number(text: str, rng: random.Random, top: int, bottom: int, colour: str) -> tuple[Mark, ...]:
    """The digits of ``text``, somewhere between the rows ``top`` and ``bottom`` (pixels)."""
    size = rng.randint(17, 24)
    advance = digit_width(size)
    x = rng.randint(1, SIZE - 2 - advance * len(text))
    # The default font leaves about a quarter of its size free above a digit.
    y = rng.randint(top - size // 5, max(bottom - size - 1, top - size // 5))
    return tuple(Mark(d, colour, x + i * advance, y, size) for i, d in enumerate(text))


def _key(kind: str, scene: Scene) -> str:
    return f"{kind} " + " ".join(f"{m.what}{m.colour}{m.x},{m.y},{m.size}" for m in scene.marks)


def make_read(rng: random.Random, digits: int) -> Problem:
    """A number of the given length."""
    number = str(rng.randint(10 ** (digits - 1), 10**digits - 1))
    colour = rng.choice(list(COLOURS))
    scene = Scene(rng.randint(225, 255), _number(number, rng, 2, SIZE - 2, colour))
    # The hasty reader's slip: the last digit is one too high.
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    return Problem(
        key=_key("read", scene),
        question=rng.choice(_READ),
        steps=f"The digits are {' '.join(number)}.",
        expression="read(image)",
        answer=number,
        wrong=wrong,
        wrong_steps=f"The digits are {' '.join(wrong)}.",
        scene=scene,
    )


def read(rng: random.Random) -> Problem:
    """A number of two digits."""
    return make_read(rng, 2)


def read_hard(rng: random.Random) -> Problem:
    """A number of three digits."""
    return make_read(rng, 3)


def image_sum(rng: random.Random) -> Problem:
    """Two numbers, one above the other, to be added."""
    a, b = rng.randint(2, 19), rng.randint(2, 19)
    first, second = rng.sample(list(COLOURS), 2)
    half = SIZE // 2
    marks = _number(str(a), rng, 2, half, first) + _number(str(b), rng, half + 2, SIZE - 1, second)
    scene = Scene(rng.randint(225, 255), marks)
    return Problem(
        key=_key("sum", scene),
        question=rng.choice(_SUM),
        steps=f"{a} + {b} = {a + b}.",
        expression="sum(read(image))",
        answer=str(a + b),
        wrong=str(a + b + 1),
        wrong_steps=f"{a} + {b} = {a + b + 1}.",
        scene=scene,
    )


def chart(rng: random.Random) -> Problem:
    """The height of a bar, or the tallest of three or four."""
    count = rng.randint(3, 4)
    colours = rng.sample(list(COLOURS), count)
    heights = rng.sample(range(1, 10), count)
    base = SIZE - rng.randint(3, 7)
    left = rng.randint(1, SIZE - 15 * count + 3)
    marks = tuple(
        Mark("bar", colour, left + 15 * i, base - UNIT * height, UNIT * height)
        for i, (colour, height) in enumerate(zip(colours, heights, strict=True))
    )
    scene = Scene(rng.randint(225, 255), marks)
    if rng.random() < 0.7:
        i = rng.randrange(count)
        question = rng.choice(_HEIGHT).format(c=colours[i])
        answer, wrong = str(heights[i]), str(heights[i] + 1)
        steps = f"The {colours[i]} bar is {answer}."
        expression = f'height("{colours[i]}")'
    else:
        question = rng.choice(_TALLEST)
        order = sorted(range(count), key=lambda j: -heights[j])
        answer, wrong = colours[order[0]], colours[order[1]]
        pairs = zip(colours, heights, strict=True)
        steps = ", ".join(f"{c} {h}" for c, h in pairs) + f". The tallest is {answer}."
        expression = "tallest(image)"
    return Problem(
        key=_key("chart", scene),
        question=question,
        steps=steps,
        expression=expression,
        answer=answer,
        wrong=wrong,
        wrong_steps=steps.replace(answer, wrong),
        scene=scene,
    )
