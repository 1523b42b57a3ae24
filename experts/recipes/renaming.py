"""The same request with other names and numbers, so that values are read and not learnt."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Z][a-z]+( [A-Z][a-z]+){0,2}")
SYLLABLES = (
    *("ba", "be", "bo", "ca", "da", "del", "do", "el", "fa", "fi", "ga", "go", "ha", "in", "ja"),
    *("ka", "ki", "la", "li", "lo", "ma", "mi", "na", "no", "or", "pa", "ra", "ri", "ro", "sa"),
    *("so", "ta", "to", "u", "va", "vi", "za"),
)


def names_among(values: Iterable[object]) -> list[str]:
    """The values that are names: words with capitals."""
    return sorted({one for one in values if isinstance(one, str) and NAME.fullmatch(one)})


def renaming(
    text: str, values: Iterable[object], names: list[str], rng: random.Random, keep: str = ""
) -> dict[str, str]:
    """What some values of a text become: names other names, numbers other numbers.

    Only what the text says once, and no other value holds, is replaced; nothing that ``keep`` has
    in quotes, as a schema has the values that it allows.
    """
    said = [value for value in values if isinstance(value, str)]
    new: dict[str, str] = {}
    for value in said:
        alone = text.count(value) == 1 and sum(value in other for other in said) == 1
        if not alone or len(value) < 3 or f'"{value}"' in keep:
            continue
        if value.isdigit():
            new[value] = str(rng.randint(10 ** (len(value) - 1), 10 ** len(value) - 1))
        elif NAME.fullmatch(value):
            new[value] = rng.choice(names) if rng.random() < 0.5 else invented(rng)
    return new


def invented(rng: random.Random) -> str:
    """A name that nobody has."""
    words = [rng.randint(2, 3), *([2] if rng.random() < 0.3 else [])]
    return " ".join("".join(rng.choice(SYLLABLES) for _ in range(n)).title() for n in words)


def camel(name: str) -> str:
    """A name of words as oneWordOfSeveral."""
    first, *rest = re.split(r"[ _-]", name)
    return first + "".join(map(str.title, rest))
