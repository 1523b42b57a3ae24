"""Text that people paste beside a question: twenty kinds, generated."""

from __future__ import annotations

import random
from collections.abc import Callable

_NOUNS = [
    "river",
    "garden",
    "council",
    "engine",
    "harbour",
    "ticket",
    "lantern",
    "winter",
    "meeting",
    "bridge",
    "kitchen",
    "report",
    "window",
    "market",
    "village",
    "project",
    "morning",
    "letter",
    "station",
    "forest",
    "camera",
    "budget",
    "teacher",
    "train",
    "doctor",
]
_VERBS = [
    "opened",
    "followed",
    "changed",
    "reached",
    "painted",
    "repaired",
    "watched",
    "closed",
    "described",
    "left",
]
_NAMES = ["Anna", "Bilal", "Chen", "Dora", "Emil", "Farah", "Greta", "Hugo", "Ines", "Jonas"]
_FOODS = ("onion", "leek", "carrot", "rice", "beans")
_SAID = ("lol yes", "on my way", "no idea", "choose json")
_FOREIGN = (
    "der Hund lief langsam durch den alten Garten und sah die Vögel",
    "le train arrive toujours en retard quand il pleut sur la ville",
    "la casa blanca tiene una puerta azul y dos ventanas pequeñas",
    "il mercato apre presto e la gente compra pane e formaggio fresco",
    "de trein naar het noorden vertrekt vanavond van een ander spoor",
)

Line = Callable[[random.Random], str]


def _sentence(r: random.Random) -> str:
    a, b, c = r.sample(_NOUNS, 3)
    return f"The {a} near the {b} {r.choice(_VERBS)} before {r.choice(_NAMES)} saw the {c}."


def _time(r: random.Random) -> str:
    return f"{r.randrange(24):02}:{r.randrange(60):02}:{r.randrange(60):02}"


def _noun(r: random.Random) -> str:
    return r.choice(_NOUNS)


def _code(r: random.Random) -> str:
    a, b = r.sample(_NOUNS, 2)
    return (
        f"def {a}_{b}({a}, {b}):\n    for item in {a}:\n        {b}.append(item * {r.randrange(9)})"
        f"\n    return {b}\n"
    )


def _json(r: random.Random) -> str:
    return (
        f'{{"id": {r.randrange(9999)}, "{_noun(r)}": "{_noun(r)}", "tags": ["{_noun(r)}", '
        f'"{_noun(r)}"], "active": true}},'
    )


_KINDS: dict[str, tuple[Line, str]] = {
    "prose": (_sentence, " "),
    "code": (_code, "\n"),
    "log": (
        lambda r: (
            f"2024-03-{r.randrange(1, 29):02} {_time(r)} "
            f"{r.choice(['INFO', 'WARN', 'ERROR'])} [{_noun(r)}] {_noun(r)} {r.choice(_VERBS)} in "
            f"{r.randrange(900)} ms"
        ),
        "\n",
    ),
    "json": (_json, "\n"),
    "csv": (lambda r: f"{_noun(r)},{r.randrange(500)},{r.random():.2f},{r.choice(_NAMES)}", "\n"),
    "table": (lambda r: f"| {_noun(r)} | {r.randrange(90)} | {r.choice(_NAMES)} |", "\n"),
    "mail": (
        lambda r: (
            f"Dear {r.choice(_NAMES)},\nthank you for the {_noun(r)}. {_sentence(r)} "
            f"Let us talk on Monday.\nBest wishes\n{r.choice(_NAMES)}\n"
        ),
        "\n",
    ),
    "recipe": (
        lambda r: (
            f"Heat {r.randrange(2, 9)} spoons of oil, stir in the {r.choice(_FOODS)} and "
            f" simmer for {r.randrange(5, 40)} minutes."
        ),
        "\n",
    ),
    "verse": (
        lambda r: (
            f"Oh {_noun(r)}, {r.choice(['sweet', 'old', 'lonely'])} {_noun(r)},\n"
            f"you {r.choice(_VERBS)} my {_noun(r)} all night long,"
        ),
        "\n",
    ),
    "law": (
        lambda r: (
            f"{r.randrange(1, 40)}.{r.randrange(1, 9)} The party that holds the {_noun(r)} "
            f"shall not assign the {_noun(r)} without prior written consent of the other party."
        ),
        "\n",
    ),
    "chat": (
        lambda r: (
            f"[{_time(r)}] {r.choice(_NAMES)}: {r.choice([*_SAID, 'see you at the ' + _noun(r)])}"
        ),
        "\n",
    ),
    "list": (lambda r: f"- {_noun(r)} for the {_noun(r)}", "\n"),
    "urls": (
        lambda r: f"https://example.org/{_noun(r)}/{_noun(r)}?id={r.randrange(9999)}",
        "\n",
    ),
    "markdown": (
        lambda r: f"## {_noun(r).title()}\n\n{_sentence(r)} See *{_noun(r)}* and `{_noun(r)}`.\n",
        "\n",
    ),
    "numbers": (lambda r: " ".join(str(r.randrange(1000)) for _ in range(8)), "\n"),
    "foreign": (lambda r: r.choice(_FOREIGN) + ".", " "),
    "html": (
        lambda r: (
            f'<div class="{_noun(r)}"><p>{_sentence(r)}</p><a href="#{_noun(r)}">more</a></div>'
        ),
        "\n",
    ),
    "minutes": (
        lambda r: (
            f"{r.randrange(1, 20)}. {r.choice(_NAMES)} reported on the {_noun(r)}. Action: "
            f"{r.choice(_NAMES)} to look after the {_noun(r)} by Friday."
        ),
        "\n",
    ),
    "review": (
        lambda r: (
            f"{r.randrange(1, 6)} stars. I bought this {_noun(r)} for my {_noun(r)} and it "
            f"{r.choice(_VERBS)} within {r.randrange(2, 30)} days. Would not recommend."
        ),
        " ",
    ),
    "settings": (
        lambda r: f"{_noun(r)}.{_noun(r)} = {r.choice(['on', 'off', '12', 'auto'])}",
        "\n",
    ),
}

KINDS = tuple(_KINDS)
"""Their names."""


def pasted(kind: str, words: int, seed: int) -> str:
    """At least so many words of a kind, cut there."""
    draw = random.Random(f"{kind} {words} {seed}")
    line, gap = _KINDS[kind]
    parts: list[str] = []
    count = 0
    while count < words:
        parts.append(line(draw))
        count += len(parts[-1].split())
    return gap.join(parts).strip()
