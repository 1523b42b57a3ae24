"""The expert `tools`: calls of the tools on offer, or words where none of them fits."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from everyday import everyday
from recipe import Data, Recipe, Row, base_replies, shown_length, train
from renaming import names_among, renaming

NONE_FITS = "None of these tools fits the request."
LONGEST = 2200  # characters of the tools as the prompt shows them, some 500 tokens
SHORT = 1400  # of three quarters of the rows
SHARES = {"sealtools": 1342, "rlla": 267, "glaive": 67, "sgd": 1000, "snips": 900}
VERBS = ("get", "find", "search", "lookup", "retrieve", "fetch", "show", "check", "read", "query")
"""Which of these a tool's name begins with says nothing, but half of the training data's begin with
"get": a model that has learnt that calls get_weather for anything that get_... may be for."""
SMALL_TALK = (
    "Hello!",
    "Hi there, how are you?",
    "Good morning!",
    "Thanks a lot!",
    "Thank you, that was helpful.",
    "Bye, see you tomorrow.",
    "Who are you?",
    "What can you do?",
    "That is great, thanks.",
    "OK.",
    "Tell me a joke.",
    "I feel a bit tired today.",
    "You are funny.",
    "Nice to meet you.",
    "How was your day?",
)


def rows(data: Data, rng: random.Random) -> Iterator[Row]:
    """Calls of five sources and of everyday tools; requests whose tool is taken away; questions
    and small talk."""
    made: list[Row] = []
    found = list(data["tool_calls_train"])
    rng.shuffle(found)
    left = dict(SHARES)
    offers = [row["tools"] for row in found]
    # Several calls are the hardest, and each offers the tools in another order. Requests that say
    # no value are few, and an optional argument is easily invented for them.
    several = [row for row in found if row["source"] == "sealtools" and len(row["calls"]) > 1]
    nothing = [row for row in found if not any(call["arguments"] for call in row["calls"])]
    left["sealtools"] += len(several)
    said = [value for row in found for call in row["calls"] for value in call["arguments"].values()]
    names = names_among(said)
    single = [row for row in found if row["source"] in ("sgd", "snips") and len(row["calls"]) == 1]
    joined = [_joined(rng.sample(single, rng.choice((2, 2, 3)))) for _ in range(500)]
    for row in [*nothing, *found, *several, *filter(None, joined)]:
        left.setdefault(row["source"], len(joined))
        if left[row["source"]] and (tools := _offered(row, offers, rng)):
            left[row["source"]] -= 1
            if rng.random() < 0.5:
                row = _renamed(row, names, rng)
            made.append(
                {
                    "prompt": row["prompt"],
                    "tools": tools,
                    "calls": row["calls"],
                    "about": row["source"],
                }
            )
    for row in rng.sample(found, 1400):
        called = {call["name"] for call in row["calls"]}
        offered = [tool for tool in row["tools"] if _name(tool) not in called]
        # Half of them see other tools of their own field, half those of any other.
        if len(offered) == 0 or rng.random() < 0.5:
            wanted = {word for name in called for word in _words(name)}
            offered = [tool for tool in rng.choice(offers) if not wanted & _words(_name(tool))]
        offered = _cut(offered[: rng.randint(1, 4)])
        if offered:
            made.append(
                {"prompt": row["prompt"], "tools": offered, "answer": NONE_FITS, "about": "none"}
            )
    for row in everyday(rng, 1100, NONE_FITS):
        others = rng.choice(offers)[:2] if "calls" in row and rng.random() < 0.25 else []
        made.append({**row, "tools": _cut([*row["tools"], *others])})
    asked = [row["question"] for row in data["choice_train"] if row["question"].endswith("?")]
    sums = [row["prompt"] for row in data["gsm8k_train"] if len(row["prompt"]) < 200]
    sums += [row["prompt"] for row in data["arith_train"] if len(row["prompt"]) < 200]
    asked = [*rng.sample(asked, 250), *rng.sample(sums, 120), *(2 * SMALL_TALK)]
    for request, reply in zip(asked, base_replies(asked), strict=True):
        if tools := _cut(rng.choice(offers)[: rng.randint(1, 3)]):
            made.append({"prompt": request, "tools": tools, "answer": reply, "about": "words"})
    for row in made:
        yield row if rng.random() < 0.4 else _other_names(row, rng)


def _words(name: str) -> set[str]:
    """The words of a tool's name that say what it is about: `LookupMusic` does what `PlayMusic`
    does."""
    words = re.findall(r"[a-z]{4,}", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return {word.rstrip("s") for word in words} - {"find", "search", "lookup", "check", "book"}


def _joined(parts: list[Row]) -> Row | None:
    """Several requests for different tools as one."""
    if len({call["name"] for row in parts for call in row["calls"]}) < len(parts):
        return None
    first, *others = (row["prompt"].strip() for row in parts)
    ends = first if first.endswith((".", "?", "!")) else f"{first}."
    rest = [f"{one}." if one[-1] not in ".?!" else one for one in others]
    starts = ("Then:", "And finally:") if len(rest) > 1 else ("After that:",)
    return {
        "prompt": " ".join((ends, *(f"{a} {b}" for a, b in zip(starts, rest, strict=True)))),
        "calls": [call for row in parts for call in row["calls"]],
        "tools": [tool for row in parts for tool in row["tools"]],
        "source": "joined",
    }


def _renamed(row: Row, names: list[str], rng: random.Random) -> Row:
    values = [value for call in row["calls"] for value in call["arguments"].values()]
    new = renaming(row["prompt"], values, names, rng, keep=json.dumps(row["tools"]))
    prompt = row["prompt"]
    for old, name in new.items():
        prompt = prompt.replace(old, name)
    calls = [
        {
            **call,
            "arguments": {
                key: new.get(value, value) if isinstance(value, str) else value
                for key, value in call["arguments"].items()
            },
        }
        for call in row["calls"]
    ]
    return {**row, "prompt": prompt, "calls": calls}


def _other_names(row: Row, rng: random.Random) -> Row:
    """The tools of a row under names with other verbs, or in another writing."""
    style = rng.choice(("as is", "snake", "camel", "title"))
    new: dict[str, str] = {}
    for tool in row["tools"]:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", _name(tool))
        if "".join(words) != re.sub(r"[_-]", "", _name(tool)) or len(words) < 2:
            continue  # no name of words
        if words[0].lower() in VERBS:
            words[0] = rng.choice((*VERBS, *VERBS, ""))
        elif rng.random() < 0.2:
            words.insert(0, rng.choice(("do", "run", "get", "tool", "my")))
        words = [word.lower() for word in words if word]
        written = style
        if style == "as is":
            own = _name(tool)
            written = "snake" if "_" in own else "title" if own[0].isupper() else "camel"
        if written == "snake":
            name = "_".join(words)
        else:
            name = "".join(map(str.title, words))
            name = name if written == "title" else name[0].lower() + name[1:]
        if name not in new.values() and name not in map(_name, row["tools"]):
            new[_name(tool)] = name
    tools = [
        {**tool, "function": {**tool["function"], "name": new.get(_name(tool), _name(tool))}}
        for tool in row["tools"]
    ]
    called = [
        {**call, "name": new.get(call["name"], call["name"])} for call in row.get("calls", ())
    ]
    return {**row, "tools": tools, **({"calls": called} if called else {})}


def _offered(row: Row, offers: list[list[Any]], rng: random.Random) -> list[Any]:
    """The tools of a row in another order, fewer or more of those that are not called."""
    names = {call["name"] for call in row["calls"]}
    needed = [tool for tool in row["tools"] if _name(tool) in names]
    most = SHORT if rng.random() < 0.75 and shown_length(needed) < SHORT else LONGEST
    others = [tool for tool in row["tools"] if _name(tool) not in names]
    rng.shuffle(others)
    if rng.random() < 0.25:
        others = others[: rng.randint(0, 1)]
    elif rng.random() < 0.3:
        others += [tool for tool in rng.choice(offers) if _name(tool) not in names]
    seen: dict[str, Any] = {}
    for tool in (*needed, *others):
        if _name(tool) in seen or shown_length([*seen.values(), tool]) > most:
            if tool in needed:
                return []
            continue
        seen[_name(tool)] = tool
    tools = list(seen.values())
    rng.shuffle(tools)
    return tools


def _cut(tools: list[Any]) -> list[Any]:
    while shown_length(tools) > SHORT:
        tools = tools[:-1]
    return tools


def _name(tool: Any) -> str:
    return str(tool["function"]["name"])


RECIPE = Recipe(
    name="tools",
    description="Calls the tools on offer with the request's values; uses words where none fits.",
    rows=rows,
    reward="calls",
    sources={
        "Seal-Tools": "Apache-2.0",
        "Schema-Guided Dialogue": "CC BY-SA 4.0",
        "SNIPS NLU benchmark": "CC0",
        "Glaive demo": "Apache-2.0",
        "RLLA": "Apache-2.0",
        "GSM8K": "MIT",
        "MAWPS family": "MIT",
        "ARC-Easy": "CC BY-SA 4.0",
        "OpenBookQA": "Apache-2.0",
        "CommonsenseQA": "MIT",
        "everyday tools, made for t2agent": "Apache-2.0",
    },
    shown=lambda row: "calls" in row,
    steps=180,
    caution=0.72,
    beams=4,
    grounding=4.0,
    settings={
        "directions": 192,
        "prompts": 12,
        "warmup": 5,
        "validate_every": 60,
        "validation": 48,
    },
)

if __name__ == "__main__":
    train(RECIPE)
