"""What a tool is in the corpus, the values of its arguments, and made-up tools.

Half of the words among the values mean nothing, so that they can only be copied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from t2agent.nano.problem import Call
from t2agent.nano.words import CATEGORIES, COLOURS, NAMES

Value = Any  # a string, an integer or a list of them
Arguments = Mapping[str, Value]
Kind = Callable[[random.Random], Value]

_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
_CITIES = (
    *("Paris", "London", "Rome", "Oslo", "Berlin", "Madrid", "Lima", "Cairo", "Delhi", "Tokyo"),
    *("Quito", "Dublin", "Vienna", "Athens", "Boston", "Sydney", "Lagos", "Seoul", "Milan"),
)
_LANGUAGES = ("French", "German", "Spanish", "Italian", "Greek", "Polish", "Dutch")
WORDS = tuple(word for words in CATEGORIES.values() for word in words)


def pseudo_word(rng: random.Random) -> str:
    """A word of two or three syllables that means nothing, so that it can only be copied."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def or_pseudo(words: tuple[str, ...], *, capital: bool = False) -> Kind:
    """One of the words, or one that means nothing."""

    def draw(rng: random.Random) -> Value:
        word = rng.choice(words) if rng.random() < 0.5 else pseudo_word(rng)
        return word.capitalize() if capital else word

    return draw


def number(low: int, high: int) -> Kind:
    """A whole number from ``low`` to ``high``."""
    return lambda rng: rng.randint(low, high)


def time_of_day(rng: random.Random) -> Value:
    """As 07:35."""
    return f"{rng.randint(0, 23):02}:{rng.randrange(0, 60, 5):02}"


def date(rng: random.Random) -> str:
    """A day of some year, as 2026-03-14."""
    return f"20{rng.randint(10, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def text(rng: random.Random) -> Value:
    """Two to four words."""
    draw = or_pseudo(WORDS)
    return " ".join(str(draw(rng)) for _ in range(rng.randint(2, 4)))


def expression(rng: random.Random) -> str:
    """Arithmetic beyond what the model does by itself."""
    signs = rng.choice(("*", "+", "-", "*", "+*", "*-", "+-", "*+"))
    numbers = [rng.randint(2, rng.choice((20, 99, 999))) for _ in range(len(signs) + 1)]
    words = [str(numbers[0])]
    for sign, number in zip(signs, numbers[1:], strict=True):
        words += [sign, str(number)]
    return " ".join(words)


def compute(text: str) -> int:
    """The value of an `expression`."""
    sign = "+"
    products: list[int] = []
    for word in text.split():
        if word in "+-*":
            sign = word
        elif sign == "*":
            products[-1] *= int(word)
        else:
            products.append(int(word) if sign == "+" else -int(word))
    return sum(products)


WORD = or_pseudo(WORDS)


def digits(rng: random.Random) -> Value:
    """A list of two to five numbers."""
    return [rng.randint(0, 99) for _ in range(rng.randint(2, 5))]


def words(rng: random.Random) -> Value:
    """A list of two to four words."""
    return [str(WORD(rng)) for _ in range(rng.randint(2, 4))]


KINDS: Mapping[str, Kind] = {
    "word": WORD,
    "name": or_pseudo(NAMES, capital=True),
    "city": or_pseudo(_CITIES, capital=True),
    "colour": or_pseudo(tuple(COLOURS)),
    "language": or_pseudo(_LANGUAGES, capital=True),
    "small": number(1, 20),
    "number": number(1, 999),
    "date": date,
    "time": time_of_day,
    "text": text,
    "expression": expression,
    "digits": digits,
    "words": words,
}
"""Name -> kind of a parameter's values."""


def shown(value: Value) -> str:
    """A value as a request says it: a list without its brackets."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool: how it is shown, how it is asked for, and what it gives.

    ``parameters``: name -> what draws a value. ``asks``: requests with a place for each value.
    ``result``: arguments -> result; made up where it is None. ``fixed``: draws all values, where
    they depend on each other.
    """

    name: str
    description: str
    parameters: Mapping[str, Kind]
    asks: tuple[str, ...]
    result: Callable[[Arguments], object] | None = None
    fixed: Callable[[random.Random], dict[str, Value]] | None = None

    def draw(self, rng: random.Random) -> dict[str, Value]:
        """Arguments for a call."""
        if self.fixed is not None:
            return self.fixed(rng)
        return {name: kind(rng) for name, kind in self.parameters.items()}

    def ask(self, arguments: Arguments, rng: random.Random) -> str:
        """A request for the call with these arguments."""
        values = {key: shown(value) for key, value in arguments.items()}
        return rng.choice(self.asks).format(**values)

    def call(self, arguments: Arguments, rng: random.Random) -> Call:
        """The call with its result, which is made up where none can be computed."""
        if self.result is not None:
            return Call(self.name, arguments, str(self.result(arguments)))
        made_up = rng.choice((str(rng.randint(1, 99)), pseudo_word(rng), "done"))
        return Call(self.name, arguments, made_up)


_VERBS = (
    *("find", "open", "check", "start", "show", "move", "count", "store", "print", "mark", "stop"),
    *("close", "lock", "clean", "fill", "empty", "paint", "wash", "cook", "plan", "draw", "send"),
    *("read", "write", "copy", "save", "load", "test", "build", "break", "lift", "drop", "pack"),
    *("order", "rent", "sell", "visit", "greet", "teach", "train", "weigh", "measure", "repair"),
)
_KEYS: Mapping[str, Kind] = {
    key: KINDS[kind]
    for kind, keys in (
        ("name", "name user owner guest friend"),
        ("text", "text note title"),
        ("word", "topic product animal food part kind item label"),
        ("city", "place country town street"),
        ("colour", "colour"),
        ("language", "language"),
        ("number", "number"),
        ("small", "count"),
        ("number", "size weight speed"),
        ("small", "level age pages floor"),
        ("number", "price length"),
        ("date", "day"),
        ("time", "hour"),
        ("digits", "values"),
        ("words", "tags"),
    )
    for key in keys.split()
}
_MADE_ASKS = (
    "{V} the {n} with {p}.",
    "{V} a {n}: {p}.",
    "Please {v} the {n}, {p}.",
    "I want to {v} the {n} with {p}.",
)


def made_up(rng: random.Random) -> ToolSpec:
    """A tool that hardly any other document has shown: name and values can only be copied."""
    verb, noun = rng.choice(_VERBS), str(WORD(rng))
    keys = rng.sample(list(_KEYS), rng.randint(1, 2))
    phrase = " and ".join(rng.choice((f"{key} {{{key}}}", f"the {key} {{{key}}}")) for key in keys)
    ask = rng.choice(_MADE_ASKS).format(V=verb.capitalize(), v=verb, n=noun, p="{p}")
    about = f"{verb.capitalize()}s the {noun}."
    return ToolSpec(
        f"{verb}_{noun}", about, {key: _KEYS[key] for key in keys}, (ask.replace("{p}", phrase),)
    )
