"""Requests to the tools that assistants have, made from the patterns of `everyday_tools`."""

from __future__ import annotations

import random

from everyday_tools import KINDS, VALUES, WEATHER, Kind
from recipe import Row
from renaming import camel


def everyday(rng: random.Random, count: int, none_fits: str) -> list[Row]:
    """Rows: the tool of a request among others, some with two calls; a third with none that fits,
    since of a request for money and a weather tool alone the weather is easily asked."""
    return [_row(rng, none_fits) for _ in range(count)]


def _row(rng: random.Random, none_fits: str) -> Row:
    # A weather tool is everywhere: what is not about the weather must be told from it.
    kind = rng.choice(KINDS)
    apart = [one for one in KINDS if one.field != kind.field and one is not WEATHER]
    others = rng.sample(apart, rng.choice((0, 1, 1, 2, 3)))
    if kind.field != WEATHER.field and rng.random() < 0.45:
        others.insert(0, WEATHER)
    kinds = [kind, *others]
    tools = [_tool(one, rng) for one in kinds]
    chance = rng.random()
    if others and chance < 0.4:
        offered = tools[1:]
        rng.shuffle(offered)
        prompt, _ = _asked(kind, tools[0], rng)
        return {
            "prompt": prompt,
            "tools": [_plain(tool) for tool in offered],
            "answer": none_fits,
            "about": "none",
        }
    wanted = [0]
    if chance > 0.85:  # the same tool twice, or two tools
        wanted = [0, rng.randint(0, len(kinds) - 1)]
    said = [_asked(kinds[i], tools[i], rng, greets=n == 0) for n, i in enumerate(wanted)]
    calls = [call for _, call in said]
    if len(calls) > 1 and calls[0] == calls[1]:
        said, calls = said[:1], calls[:1]
    prompt = said[0][0]
    if len(said) > 1:
        end = "" if prompt.endswith((".", "?")) else "."
        prompt = f"{prompt}{end} {rng.choice(('Also: ', 'And ', 'Then, ', ''))}{said[1][0]}"
    rng.shuffle(tools)
    return {
        "prompt": prompt,
        "tools": [_plain(tool) for tool in tools],
        "calls": calls,
        "about": "everyday",
    }


def _tool(kind: Kind, rng: random.Random) -> Row:
    """A tool, and under "takes" which of its arguments takes which value."""
    as_camel = rng.random() < 0.2
    takes, properties = {}, {}
    for value, (names, kind_of_value, text) in kind.takes.items():
        name = rng.choice([n for n in names if n not in properties])
        takes[value] = camel(name) if as_camel else name
        properties[takes[value]] = {"type": kind_of_value, "description": text}
    always = [
        takes[value]
        for value in kind.takes
        if all(f"{{{value}}}" in request for request in kind.requests)
    ]
    name = rng.choice(kind.names)
    return {
        "function": {
            "name": camel(name) if as_camel else name,
            "description": rng.choice(kind.about),
            "parameters": {"type": "object", "properties": properties, "required": always},
        },
        "takes": takes,
    }


def _plain(tool: Row) -> Row:
    return {"type": "function", "function": tool["function"]}


def _asked(kind: Kind, tool: Row, rng: random.Random, greets: bool = True) -> tuple[str, Row]:
    """A request, which may begin with a greeting, and the call that it wants."""
    request = rng.choice(kind.requests)
    values = {name: of(rng) for name, of in VALUES.items()}
    values["unit"], values["unit2"] = rng.sample(values.pop("units"), 2)
    if values["code"] == values["other"]:
        values["other"] = "EUR" if values["code"] != "EUR" else "USD"
    start = rng.choice(("", "", "", "", "Hi! ", "Please: ", "Hello, ")) if greets else ""
    said = start + request.format(**values)
    if not start and rng.random() < 0.7:
        said = said[0].upper() + said[1:]
    arguments = {
        name: values[value] for value, name in tool["takes"].items() if f"{{{value}}}" in request
    }
    return said, {"name": tool["function"]["name"], "arguments": arguments}
