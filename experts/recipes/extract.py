"""The expert `extract`: what a text says, as JSON by the schema of the request."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from recipe import Data, Recipe, Row, train
from renaming import camel, names_among, renaming

from t2agent.bench.datasets import read_json
from t2agent.bench.real.forms import field_schema
from t2agent.engine.reply_form import ReplyForm
from t2agent.models.prompt import Prompt

SHARES = {"snips": 1700, "e2e": 1500, "wnut17": 600, "sec_ner": 300}
CALLS = 900
FEW = 24  # values of a field that a schema may name
NAMES = {  # other names for fields, so that names are read and not learnt
    "PER": ("person", "people", "persons"),
    "ORG": ("organisation", "organizations", "company"),
    "LOC": ("location", "places", "place"),
    "MISC": ("misc", "other_names"),
    "person": ("person", "people", "who"),
    "location": ("location", "place", "where"),
    "group": ("group", "band_or_team"),
    "corporation": ("corporation", "company"),
    "creative-work": ("creative_work", "title", "work"),
    "product": ("product", "products"),
    "eatType": ("eat_type", "kind", "venue_type"),
    "familyFriendly": ("family_friendly", "kids_welcome"),
    "priceRange": ("price_range", "price", "prices"),
    "customer rating": ("customer_rating", "rating", "score"),
    "near": ("near", "close_to", "landmark"),
    "food": ("food", "cuisine"),
    "area": ("area", "district"),
    "name": ("name", "restaurant"),
    "timeRange": ("time", "when", "date"),
    "party_size_number": ("party_size", "guests", "number_of_people"),
    "object_name": ("title", "name", "object"),
    "rating_value": ("rating", "stars", "score"),
}


def rows(data: Data, rng: random.Random) -> Iterator[Row]:
    """Texts of four kinds with schemas of many forms: some fields of each are not in the text."""
    known = read_json(data.folder / "extract_fields.json")
    values: dict[str, list[str]] = defaultdict(list)
    for row in data["extract_train"]:
        for name, value in row["fields"].items():
            if isinstance(value, str):
                values[name].append(value)
    names = names_among(one for own in values.values() for one in own)
    few = {name: sorted(set(own)) for name, own in values.items() if len(set(own)) <= FEW}
    for source, share in SHARES.items():
        found = [row for row in data["extract_train"] if row["source"] == source]
        if source in ("wnut17", "sec_ner"):  # two thirds of these texts have nothing to extract
            empty = [row for row in found if not row["fields"]]
            found = [row for row in found if row["fields"]]
            found += empty[: len(found) // 2]
        if source == "e2e":
            found = [row for row in found if _said(row) or rng.random() < 0.1]
        for row in rng.sample(found, min(share, len(found))):
            yield _row(_renamed(row, names, rng), known[source], few, rng)
    # Requests for tools hold the values of many other fields.
    requests = [row for row in data["tool_calls_train"] if len(row["calls"]) == 1]
    rng.shuffle(requests)
    asked = [row for row in map(_of_call, requests) if row]
    for row in asked[:CALLS]:
        yield _row(_renamed(row, names, rng), row["known"], {}, rng)


def _of_call(row: Row) -> Row | None:
    """A request with the arguments of its call as its fields, where it says them all."""
    (call,) = row["calls"]
    fields = {name: value for name, value in call["arguments"].items() if isinstance(value, str)}
    if row["source"] == "snips" or not fields or len(fields) < len(call["arguments"]):
        return None
    if any(value.lower() not in row["prompt"].lower() for value in fields.values()):
        return None
    (tool,) = (t["function"] for t in row["tools"] if t["function"]["name"] == call["name"])
    known = list(tool["parameters"]["properties"])
    return {"source": "calls", "text": row["prompt"], "fields": fields, "known": known}


def _said(row: Row) -> bool:
    """Whether the text says all of its fields, nearly as they are written."""
    text = row["text"].lower()
    return all(
        value.lower() in text or name in ("familyFriendly", "priceRange", "eatType")
        for name, value in row["fields"].items()
    )


def _renamed(row: Row, names: list[str], rng: random.Random) -> Row:
    if rng.random() < 0.4:
        return row
    new = renaming(row["text"], row["fields"].values(), names, rng)
    text = row["text"]
    for old, name in new.items():
        text = text.replace(old, name)
    fields = {
        key: new.get(value, value) if isinstance(value, str) else value
        for key, value in row["fields"].items()
    }
    return {**row, "text": text, "fields": fields}


def _typed(value: str | None, few: list[str], rng: random.Random) -> tuple[Row, Any] | None:
    """A field as a whole number, a truth value, or one of some values that the schema names."""
    if value is not None and re.fullmatch(r"[1-9]\d{0,5}", value):
        return {"type": "integer"}, int(value)
    if few and set(few) <= {"yes", "no"}:
        return {"type": "boolean"}, None if value is None else value == "yes"
    others = [one for one in few if one != value]
    if not others:
        return None
    allowed = rng.sample(others, min(len(others), rng.randint(1, 5)))
    allowed += [] if value is None else [value]
    rng.shuffle(allowed)
    return {"type": "string", "enum": allowed}, value


def _row(row: Row, known: list[str], few: dict[str, list[str]], rng: random.Random) -> Row:
    fields = row["fields"]
    others = [name for name in known if name not in fields]
    # All of a set, as a schema that serves for many texts has them, or some.
    all_shown = 0.7 if len(known) < 10 else 0.6
    more = len(others) if rng.random() < all_shown else rng.randint(0, 5)
    names = [*fields, *rng.sample(others, min(more, len(others)))]
    rng.shuffle(names)
    called = {
        name: rng.choice(NAMES[name]) if name in NAMES and rng.random() < 0.5 else name
        for name in names
    }
    if rng.random() < 0.2:
        called = {name: camel(new) for name, new in called.items()}
    if len(set(called.values())) < len(called):
        called = {name: name for name in names}
    listed = row["source"] in ("wnut17", "sec_ner")
    schema = field_schema({called[name]: listed for name in names})
    answer: dict[str, Any] = {called[name]: fields[name] for name in names if name in fields}
    if not listed and rng.random() < 0.45:
        for name in names:
            typed = rng.random() < 0.6 and _typed(fields.get(name), few.get(name, []), rng)
            if typed:
                schema["properties"][called[name]], value = typed
                if name in fields:
                    answer[called[name]] = value
    form = rng.random()
    if form < 0.25 and not listed:
        schema["properties"] = {
            name: {"anyOf": [one, {"type": "null"}]} for name, one in schema["properties"].items()
        }
    if form < 0.12 and len(names) < 13:  # all of forty would be an answer of nothing but null
        schema = {**schema, "required": list(schema["properties"])}
        empty: Any = [] if listed else None
        answer = {called[name]: answer.get(called[name], empty) for name in names}
    elif form < 0.25:
        schema["properties"] = {
            name: {**one, "default": [] if listed else None}
            for name, one in schema["properties"].items()
        }
    elif form < 0.4:
        schema["properties"] = {
            called[name]: {
                "description": f"the {_plain(name)}",
                **schema["properties"][called[name]],
            }
            for name in names
        }
    if rng.random() < 0.3:
        schema.pop("additionalProperties")
    if rng.random() < 0.3:
        schema["title"] = rng.choice(
            ("Extraction", "Restaurant", "Order", "Entities", "Record", "Message")
        )
    text = row["text"]
    ask = rng.random()
    if ask < 0.15:
        text = f"Extract the fields from this text:\n\n{text}"
    elif ask < 0.25:
        text = f"{text}\n\nWhat does this say about: {', '.join(called.values())}?"
    asked = ReplyForm(schema=schema).prompt(Prompt(({"role": "user", "content": text},)))
    return {
        "messages": list(asked.messages),
        "answer": json.dumps(answer, ensure_ascii=False),
        "about": row["source"],
    }


def _plain(name: str) -> str:
    return re.sub(r"[_-]", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower()


RECIPE = Recipe(
    name="extract",
    description="Says as JSON, by the schema of the request, what a text tells.",
    rows=rows,
    reward="json",
    sources={
        "SNIPS NLU benchmark": "CC0",
        "E2E": "CC BY-SA 4.0",
        "WNUT-17": "CC BY 4.0",
        "SEC filings": "CC BY 3.0",
        "Schema-Guided Dialogue": "CC BY-SA 4.0",
        "Seal-Tools": "Apache-2.0",
        "Glaive demo": "Apache-2.0",
        "RLLA": "Apache-2.0",
    },
    shown=lambda row: row["about"] in ("snips", "e2e"),
    steps=700,
    beams=4,
    settings={
        "validation": 48,
        "directions": 192,
        "prompts": 16,
        "warmup": 4,
        "validate_every": 40,
    },
)

if __name__ == "__main__":
    train(RECIPE)
