"""The expert `answer`: after a tool's result, says what the result says.

The assistants of the source name two or three values of a result and leave out the others. Here a
reply names them all: an agent's user asked for them, and nothing else tells what was left out.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

from recipe import Data, Recipe, Row, train

LONGEST = 2600  # characters of messages and tools
RECORDS = 1200
MORE: dict[str, Callable[[random.Random], Any]] = {
    "time": lambda rng: f"{rng.randint(0, 23):02}:{rng.randrange(0, 60, 5):02}",
    "event": lambda rng: rng.choice(("meeting", "dentist", "birthday", "concert", "yoga", "exam")),
    "place": lambda rng: f"{rng.choice(('room', 'hall', 'gate', 'platform'))} {rng.randint(1, 40)}",
    "condition": lambda rng: rng.choice(("sunny", "foggy", "light rain", "snow", "clear")),
    "amount": lambda rng: round(rng.uniform(1, 9000), 2),
    "status": lambda rng: rng.choice(("open", "closed", "sold out", "on time", "delayed")),
    "distance_km": lambda rng: rng.randint(1, 900),
}
AMOUNTS = re.compile(r"price|fare|total|balance|cost|rent|amount")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip


def rows(data: Data, rng: random.Random) -> Iterator[Row]:
    """Results of services, restaurants by their fields, and single values."""
    found = list(data["tool_answers_train"])
    rng.shuffle(found)
    for row in found:
        messages = _shortened(row["messages"], rng)
        result = json.loads(messages[-1]["content"])
        if len(json.dumps([messages, row["tools"]])) > LONGEST:
            continue
        yield {
            "messages": messages,
            "tools": row["tools"],
            "answer": said(result),
            "about": "services",
        }
    yield from _restaurants(data, rng)
    yield from _values(data, rng)
    yield from _records(data, rng)


def said(result: Any) -> str:
    """A result of a tool in words: the first item whole, of the others the names."""
    items = result if isinstance(result, list) else [result]
    if not items:
        return "I found nothing."
    first, *others = items
    name = _name_key(first)
    told = ", ".join(_told(key, value) for key, value in first.items() if key != name)
    start = "I found" if name is None else f"I found {first[name]}"
    text = f"{start}: {told}." if told else f"{start}."
    if others:
        label = name or next(iter(first))
        text += (
            f" Another is {_value(label, others[0].get(label, next(iter(others[0].values()))))}."
        )
    return text


def _name_key(item: dict[str, Any]) -> str | None:
    named = [key for key in item if re.search(r"(^|_)(name|title)$", key) and "airport" not in key]
    return named[0] if named else None


def _told(key: str, value: Any) -> str:
    plain = key.replace("_", " ")
    if str(value) in ("True", "False"):
        return f"{plain} {'yes' if str(value) == 'True' else 'no'}"
    return f"{plain} {_value(key, value)}"


def _value(key: str, value: Any) -> str:
    text = str(value)
    if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d)", text):
        day = date.fromisoformat(text)
        ending = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        return f"{MONTHS[day.month - 1]} {day.day}{ending}"
    if AMOUNTS.search(key) and re.fullmatch(r"[\d.]+", text):
        return f"${text}"
    return re.sub(r"(\.\d)0$", r"\1", text)


def _shortened(messages: list[Any], rng: random.Random) -> list[Any]:
    """A conversation from one of its user's messages on; results as a list, or as one item."""
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    start = users[-1] if rng.random() < 0.6 else rng.choice(users)
    messages = [_called(message) for message in messages[start:]]
    result = json.loads(messages[-1]["content"])
    if isinstance(result, list) and result and rng.random() < 0.35:
        messages[-1] = {**messages[-1], "content": json.dumps(result[0])}
    return messages


def _called(message: Any) -> Any:
    """A message with its calls in OpenAI's form."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {
            "type": "function",
            "id": f"call_{i}",
            "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])},
        }
        for i, c in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}


def _restaurants(data: Data, rng: random.Random) -> Iterator[Row]:
    """E2E's restaurants as results of a tool, with what people wrote of them."""
    found = [row for row in data["extract_train"] if row["source"] == "e2e"]
    tool = _tool("find_restaurant", "Find a restaurant by its name", {"name": "string"})
    asks = (
        "Tell me about {}.",
        "What is {} like?",
        "Can you find {} for me?",
        "Look up {} please.",
    )
    for row in rng.sample(found, len(found)):
        fields, text = row["fields"], row["text"]
        yes = {"familyFriendly": ("family", "kid", "child")}
        if "name" not in fields or not all(
            value.lower() in text.lower() for name, value in fields.items() if name not in yes
        ):
            continue
        yield _exchange(
            rng.choice(asks).format(fields["name"]),
            tool,
            {"name": fields["name"]},
            json.dumps(fields),
            text,
            "restaurants",
        )


def _values(data: Data, rng: random.Random) -> Iterator[Row]:
    """Results that are one number, one line or an error."""
    tool = _tool("calculator", "Works out an expression", {"expression": "string"})
    for row in rng.sample([r for r in data["arith_train"] if "equation" in r], 160):
        yield _exchange(
            row["prompt"],
            tool,
            {"expression": row["equation"]},
            row["answer"],
            f"The answer is {row['answer']}.",
            "values",
        )
    cities = sorted(
        {
            str(row["fields"]["city"])
            for row in data["extract_train"]
            if row["source"] == "snips" and "city" in row["fields"]
        }
    )
    weather = _tool("get_weather", "The weather of a city now", {"city": "string"})
    skies = ("sunny", "cloudy", "light rain", "snow", "windy", "fog", "clear sky", "thunderstorm")
    for city in rng.sample(cities, 120):
        sky, degrees = rng.choice(skies), rng.randint(-15, 40)
        line, reply = rng.choice(
            (
                (f"{sky}, {degrees} °C", f"The weather in {city}: {sky}, {degrees} °C."),
                (
                    f"{degrees} degrees and {sky} in {city}",
                    f"It is {degrees} degrees and {sky} in {city}.",
                ),
            )
        )
        ask = rng.choice(
            (
                "What is the weather in {}?",
                "How is the weather in {} today?",
                "Is it warm in {}?",
                "Weather for {}, please.",
            )
        )
        yield _exchange(ask.format(city), weather, {"city": city}, line, reply, "values")
    for row in rng.sample([r for r in data["tool_calls_train"] if len(r["calls"]) == 1], 160):
        call = row["calls"][0]
        tools = [t for t in row["tools"] if t["function"]["name"] == call["name"]]
        which = rng.random()
        if which < 0.4:
            result = rng.choice(('{"status": "success"}', "ok", '{"success": true}', "done"))
            values = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in call["arguments"].items())
            reply = f"Done: {values}." if values else "Done."
        elif which < 0.7:
            why = rng.choice(
                (
                    "not found",
                    "service unavailable",
                    "invalid request",
                    "no such entry",
                    "timed out",
                )
            )
            result, reply = f"Error: {why}", f"That did not work: {why}."
        else:
            result, reply = "[]", "I found nothing."
        if len(json.dumps(tools)) < LONGEST / 2:
            yield _exchange(row["prompt"], tools[0], call["arguments"], result, reply, "values")


def _records(data: Data, rng: random.Random) -> Iterator[Row]:
    """Results of any tool: a few fields with values that other calls have, so that the fields are
    read and not known."""
    calls = [row for row in data["tool_calls_train"] if len(row["calls"]) == 1]
    known = [
        (key, value)
        for row in calls
        for key, value in row["calls"][0]["arguments"].items()
        if isinstance(value, str | int | float) and len(str(value)) < 40 and row["source"] != "rlla"
    ]
    made = 0
    for row in rng.sample(calls, len(calls)):
        call = row["calls"][0]
        tools = [t for t in row["tools"] if t["function"]["name"] == call["name"]]
        if len(json.dumps(tools)) > LONGEST / 2 or made == RECORDS:
            continue
        made += 1
        own = [(key, value) for key, value in call["arguments"].items() if rng.random() < 0.5]
        fields = dict([*own[:2], *rng.sample(known, rng.randint(1, 4))])
        for key, value in MORE.items():
            if rng.random() < 0.15:
                fields[key] = value(rng)
        pairs = list(fields.items())
        rng.shuffle(pairs)
        result = dict(pairs)
        yield _exchange(
            row["prompt"], tools[0], call["arguments"], json.dumps(result), said(result), "records"
        )


def _tool(name: str, about: str, fields: dict[str, str]) -> Any:
    properties = {field: {"type": kind} for field, kind in fields.items()}
    parameters = {"type": "object", "properties": properties, "required": list(fields)}
    return {
        "type": "function",
        "function": {"name": name, "description": about, "parameters": parameters},
    }


def _exchange(request: str, tool: Any, arguments: Any, result: str, reply: str, about: str) -> Row:
    name = tool["function"]["name"]
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": name, "arguments": arguments}],
    }
    messages = [
        {"role": "user", "content": request},
        _called(call),
        {"role": "tool", "name": name, "content": result},
    ]
    return {"messages": messages, "tools": [tool], "answer": reply, "about": about}


RECIPE = Recipe(
    name="answer",
    description="After a tool's result, says what the result says: all of its values.",
    rows=rows,
    reward="f1",
    sources={
        "Schema-Guided Dialogue": "CC BY-SA 4.0",
        "E2E": "CC BY-SA 4.0",
        "MAWPS family": "MIT",
        "SNIPS NLU benchmark": "CC0",
        "Seal-Tools": "Apache-2.0",
    },
    steps=80,
    grounding=3.0,
    settings={
        "validation": 32,
        "directions": 192,
        "prompts": 16,
        "warmup": 4,
        "validate_every": 40,
    },
)

if __name__ == "__main__":
    train(RECIPE)
