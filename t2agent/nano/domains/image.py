"""Questions about an image: numbers, bar charts, and shapes to count."""

from __future__ import annotations

import random

from t2agent.nano.drawing import SIZE, UNIT, Mark, Scene, digit_width
from t2agent.nano.problem import Problem
from t2agent.nano.words import COLOURS, SHAPE_COLOURS, SHAPES

_READ = (
    "What number is in the image?",
    "Which number do you see in the image?",
    "Read the number in the picture.",
    "What number does the picture show?",
)
_GROUND = SIZE - 8  # where bars stand, in pixels from above
_HIGHEST = 6  # units
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
_HIGHER = (
    "How much higher is the {a} bar than the {b} bar?",
    "By how much is the {a} bar taller than the {b} bar?",
)
_MANY = (
    "How many {k} are there in the image?",
    "Count the {k} in the picture.",
    "How many {k} do you see?",
    "The image shows some shapes. How many of them are {k}?",
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


def _bars(rng: random.Random) -> tuple[Scene, list[str], list[int]]:
    """A chart of three or four bars, their colours and their heights, from left to right."""
    count = rng.randint(3, 4)
    colours = rng.sample(list(COLOURS), count)
    heights = rng.sample(range(1, _HIGHEST + 1), count)
    # A bar stands in a column of its own of the image's tokens, and all on the same ground.
    columns = sorted(rng.sample(range(4), count))
    marks = tuple(
        Mark("bar", colour, 16 * place + rng.randint(2, 4), _GROUND - UNIT * height, UNIT * height)
        for place, colour, height in zip(columns, colours, heights, strict=True)
    )
    return Scene(rng.randint(225, 255), marks), colours, heights


def chart(rng: random.Random) -> Problem:
    """The height of a bar, or the tallest of three or four."""
    scene, colours, heights = _bars(rng)
    count = len(colours)
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


def chart_hard(rng: random.Random) -> Problem:
    """The difference of two bars."""
    scene, colours, heights = _bars(rng)
    order = rng.sample(range(len(colours)), 2)
    order.sort(key=lambda i: -heights[i])
    (first, a), (second, b) = ((colours[i], heights[i]) for i in order)
    steps = f"{first} {a}, {second} {b}. {a} - {b} = "
    return Problem(
        key=_key("chart", scene),
        question=rng.choice(_HIGHER).format(a=first, b=second),
        steps=f"{steps}{a - b}.",
        expression=f'height("{first}") - height("{second}")',
        answer=str(a - b),
        wrong=str(a - b + 1),
        wrong_steps=f"{steps}{a - b + 1}.",
        scene=scene,
    )


def _shapes(rng: random.Random, likely: tuple[str, str]) -> Scene:
    """One to four shapes, each in a quarter of the image; those of the ``likely`` colour and shape
    come more often, so that there is something to count."""
    marks = []
    for place in sorted(rng.sample(range(4), rng.randint(1, 4))):
        size = rng.randint(17, 25)
        x, y = (
            half * (SIZE // 2) + rng.randint(2, SIZE // 2 - 3 - size)
            for half in (place % 2, place // 2)
        )
        colour, shape = rng.choice(SHAPE_COLOURS), rng.choice(SHAPES)
        colour = likely[0] if rng.random() < 0.3 else colour
        shape = likely[1] if rng.random() < 0.3 else shape
        marks.append(Mark(shape, colour, x, y, size))
    return Scene(rng.randint(225, 255), tuple(marks))


def _counted(rng: random.Random, scene: Scene, colour: str, shape: str) -> Problem:
    """Count the marks of a colour, of a shape, or of both ("" for any).

    The steps name, object by object, only what is asked for, and go on only while it fits: each
    word is a decision about one place of the image.
    """
    steps, found = [], 0
    for mark in scene.marks:
        words = [mark.colour] if colour else []
        if shape and (not colour or mark.colour == colour):
            words.append(mark.what)
        if colour in ("", mark.colour) and shape in ("", mark.what):
            found += 1
            words.append(str(found))
        steps.append(" ".join(words))
    asked = f"{colour} {shape or 'shape'}".strip()
    return Problem(
        key=_key("count", scene),
        question=rng.choice(_MANY).format(k=f"{asked}s"),
        steps=", ".join(steps) + ".",
        expression=f'count("{asked}")',
        answer=str(found),
        wrong=str(found + 1),
        wrong_steps=", ".join(steps) + ".",
        scene=scene,
    )


def count(rng: random.Random) -> Problem:
    """How many shapes of a colour, or how many of a shape."""
    colour, shape = rng.choice(SHAPE_COLOURS), rng.choice(SHAPES)
    scene = _shapes(rng, (colour, shape))
    by_colour = rng.random() < 0.5
    return _counted(rng, scene, colour if by_colour else "", "" if by_colour else shape)


def count_hard(rng: random.Random) -> Problem:
    """How many of a colour and a shape."""
    colour, shape = rng.choice(SHAPE_COLOURS), rng.choice(SHAPES)
    return _counted(rng, _shapes(rng, (colour, shape)), colour, shape)
