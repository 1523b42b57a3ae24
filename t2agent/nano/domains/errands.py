"""Errands: requests that take several steps with the tools that ship, for the agent's benchmark.

An answer needs what a tool gives: the numbers are too large to be worked out without one. Some
need two calls, some a look at an image and a call, and some one call whose result is no answer
yet. With `chain` and `image_call` of ``tools.py`` they are the tasks of ``t2agent bench agent``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from t2agent.nano.domains import image, math
from t2agent.nano.domains.known_tools import SHIPPED
from t2agent.nano.domains.toolkit import WORD, pseudo_word, text
from t2agent.nano.domains.tools import BY_NAME, THEN, calculation, call_key, called
from t2agent.nano.drawing import SIZE, Mark, Scene
from t2agent.nano.problem import Call, Problem
from t2agent.nano.words import COLOURS

FILES = ("notes", "list", "plan", "diary", "letter")
"""Names of the files that are searched, without their ending."""


def _errand(
    question: str,
    calls: Sequence[Call],
    rng: random.Random,
    *,
    key: str,
    answer: str = "",
    scene: Scene | None = None,
) -> Problem:
    """Offered are the tools that are called and one other."""
    names = list(dict.fromkeys(call.name for call in calls))  # in order: draws must repeat
    offered = [BY_NAME[name] for name in names]
    offered.append(rng.choice([tool for tool in SHIPPED if tool.name not in names]))
    rng.shuffle(offered)
    return called(question, calls, offered, key=key, answer=answer, scene=scene)


def _calculation(left: object, rng: random.Random) -> tuple[str, int, Call]:
    """A sign, a number, and the call that works out ``left`` sign number."""
    sign, number = rng.choice("*+-"), rng.randint(11, 99)
    return sign, number, calculation(f"{left} {sign} {number}", rng)


def _asked(sign: str, number: int, what: str) -> str:
    """A request for a calculation with what an image shows."""
    return {
        "*": f"Multiply {what} by {number}.",
        "+": f"Add {number} to {what}.",
        "-": f"Subtract {number} from {what}.",
    }[sign]


def convert(rng: random.Random) -> Problem:
    """Convert a value, then go on with the result: two calls."""
    tool = BY_NAME["convert_units"]
    drawn = tool.draw(rng)
    first = tool.call(drawn, rng)
    sign, number, second = _calculation(first.result, rng)
    ask = f"Convert {drawn['value']} {drawn['unit']} to {drawn['to']}, then {THEN[sign]} {number}."
    return _errand(ask, [first, second], rng, key=f"errand convert {ask}")


def count_words(rng: random.Random) -> Problem:
    """Count words, then go on with the number: two calls."""
    words = str(text(rng))
    first = BY_NAME["count_words"].call({"text": words}, rng)
    sign, number, second = _calculation(first.result, rng)
    ask = f'Count the words in "{words}", then {THEN[sign]} {number}.'
    return _errand(ask, [first, second], rng, key=f"errand words {ask}")


def sort(rng: random.Random) -> Problem:
    """Sort numbers: a call, and an answer that is its result."""
    numbers = rng.sample(range(100), rng.randint(3, 5))
    listed = ", ".join(map(str, numbers))
    ask = rng.choice((f"Sort the numbers {listed}.", f"Put {listed} in order."))
    call = BY_NAME["sort_numbers"].call({"numbers": numbers}, rng)
    return _errand(ask, [call], rng, key=call_key(call.name, call.arguments))


def search(rng: random.Random) -> Problem:
    """Find a word in files: a call, and an answer that is a part of its result."""
    word = str(WORD(rng))
    line = f"{pseudo_word(rng)} {word} {pseudo_word(rng)}"
    name = rng.choice(FILES)
    ask = rng.choice((f"Which file mentions {word}?", f"Search the files for {word}."))
    call = Call("search_files", {"query": word}, f"{name}.txt:1: {line}")
    return _errand(ask, [call], rng, key=call_key(call.name, call.arguments), answer=f"{name}.txt")


def ask_expert(rng: random.Random) -> Problem:
    """Let the expert for mathematics answer: a call, and an answer that is a part of its result."""
    asked = math.math(rng)
    while '"' in asked.question or len(asked.question) > 40:
        asked = math.math(rng)
    ask = rng.choice(('Ask the math expert: "{q}"', 'Let the expert math answer "{q}"'))
    result = f"Let me see. {asked.steps} The answer is {asked.answer}."
    call = Call("ask_expert", {"name": "math", "request": asked.question}, result)
    ask = ask.format(q=asked.question)
    return _errand(ask, [call], rng, key=asked.key, answer=asked.answer)


def chart(rng: random.Random) -> Problem:
    """Read a bar's height, then calculate with it."""
    while True:
        seen = image.chart(rng)
        if seen.answer.isdigit():
            break
    colour = seen.steps.split()[1]
    sign, number, call = _calculation(seen.answer, rng)
    ask = _asked(sign, number, f"the height of the {colour} bar")
    return _errand(ask, [call], rng, key=seen.key, scene=seen.scene)


def count(rng: random.Random) -> Problem:
    """Count shapes, then calculate with their number."""
    seen = image.count(rng)
    what = seen.expression.removeprefix('count("').removesuffix('")')
    sign, number, call = _calculation(seen.answer, rng)
    ask = _asked(sign, number, f"the number of {what}s")
    return _errand(ask, [call], rng, key=seen.key, scene=seen.scene)


def colour(rng: random.Random) -> Problem:
    """Measure the colour of a bar: a call, and an answer that is a part of its result."""
    seen = image.chart(rng)
    assert seen.scene is not None
    bar: Mark = rng.choice(seen.scene.marks)
    x, y = bar.x + rng.randint(1, 8), bar.y + rng.randint(1, bar.size - 2)
    red, green, blue = COLOURS[bar.colour]
    ask = rng.choice((f"What colour is the image at {x}, {y}?", f"Measure the colour at {x}, {y}."))
    result = f"{bar.colour} (red {red}, green {green}, blue {blue})"
    call = Call("measure_colour", {"x": x, "y": y}, result)
    key = f"{seen.key} at {x}, {y}"
    return _errand(ask, [call], rng, key=key, answer=bar.colour, scene=seen.scene)


def zoom(rng: random.Random) -> Problem:
    """Enlarge the image, then read the number in what comes back."""
    seen = image.read(rng)
    factor = rng.randint(2, 9)
    side = SIZE * factor
    ask = f"Zoom the image by {factor}. What number is in the image?"
    call = Call("zoom_image", {"factor": factor}, f"The image, {side} x {side} pixels.")
    return _errand(ask, [call], rng, key=seen.key, answer=seen.answer, scene=seen.scene)


def crop(rng: random.Random) -> Problem:
    """Cut out the upper or the lower of two numbers, then read it in what comes back."""
    seen = image.image_sum(rng)
    assert seen.scene is not None
    upper = rng.random() < 0.5
    half = SIZE // 2
    box = {"left": 0, "top": 0, "right": SIZE, "bottom": half}
    if not upper:
        box |= {"top": half, "bottom": SIZE}
    number = seen.steps.split()[0 if upper else 2]
    corners = ", ".join(map(str, box.values()))
    ask = f"Crop the image to {corners}. What number is in the image?"
    call = Call("crop_image", box, f"The part of the image, {SIZE} x {half} pixels.")
    return _errand(ask, [call], rng, key=seen.key, answer=number, scene=seen.scene)
