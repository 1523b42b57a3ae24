"""Replies on random weights against schemas of public collections: what fits, what is told.

    python -m tests.benchmarks.schemas FOLDER [SCHEMAS] [SEEDS]

FOLDER: JSON Schema's own test suite, as the source distribution of `jsonschema` holds it (json/),
or the npm package json-schema-test-suite. Beside it stand pydantic models and tools as MCP servers
describe them, written here. Each step of a reply has random scores, which is what random weights
give. "fits": the reply fits its schema by `jsonschema`; "told": the schema is refused when it is
bound, or the reply's own check finds that it does not fit; "silent": neither.
"""

from __future__ import annotations

import datetime
import enum
import json
import sys
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import torch
from pydantic import BaseModel, Field, create_model

from t2agent.engine.reply_form import ReplyForm
from t2agent.errors import T2Error
from t2agent.models.constrained import Constrained, Tokens, compiled
from t2agent.models.decoding import end_tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt
from t2agent.replies.constraint import Constraint
from tests.models import build_text_model

TOKENS = 160


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


_PARTS: dict[str, Any] = {
    "text": str,
    "short": Annotated[str, Field(max_length=255)],
    "code": Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3,6}$")],
    "count": Annotated[int, Field(ge=0, le=1000)],
    "share": Annotated[float, Field(gt=0, lt=1)],
    "even": Annotated[int, Field(multiple_of=2)],
    "tags": Annotated[list[str], Field(max_length=5)],
    "unique": set[Literal["a", "b", "c"]],
    "day": datetime.date,
    "moment": datetime.datetime,
    "span": datetime.timedelta,
    "key": uuid.UUID,
    "colour": Colour,
    "maybe": int | None,
    "either": int | str,
    "pair": tuple[int, str],
    "map": dict[str, int],
    "any": Any,
    "tree": Tree,
    "trees": list[Tree],
}


def of_pydantic() -> Iterator[tuple[str, Any]]:
    """Models of one to three kinds of fields."""
    names = list(_PARTS)
    for place, name in enumerate(names):
        for size in (1, 3):
            chosen = [names[(place + 7 * step) % len(names)] for step in range(size)]
            fields: dict[str, Any] = {one: (_PARTS[one], ...) for one in chosen}
            made = create_model(f"M{place}", **fields)
            yield f"pydantic {name} {size}", made.model_json_schema()


def of_mcp() -> Iterator[tuple[str, Any]]:
    """Parameters as MCP servers describe them: files, searches, issues, calendars, databases."""
    text, whole = {"type": "string"}, {"type": "integer"}
    mail, closed = {**text, "format": "email"}, {"additionalProperties": False}
    edit = {
        "type": "object", "properties": {"oldText": text, "newText": text},
        "required": ["oldText", "newText"], **closed,
    }  # fmt: skip
    both = {"type": "object", "properties": {"and": {"type": "array", "items": text}}}
    many = {"type": "array", "items": whole}
    upper = {"^[A-Z_]+$": text}
    dotless = {**text, "pattern": r"^(?!\.)[\w.-]{1,64}$"}
    path = {"type": "string", "minLength": 1, "maxLength": 4096, "description": "a path"}
    some = {"type": "array", "items": text, "minItems": 1, "uniqueItems": True}
    draft = "http://json-schema.org/draft-07/schema#"
    shapes: list[dict[str, Any]] = [
        {"path": path},
        {"path": path, "head": {**whole, "exclusiveMinimum": 0}, "tail": whole},
        {"paths": some},
        {"query": {**text, "minLength": 1}, "limit": {**whole, "minimum": 1, "maximum": 100}},
        {"owner": text, "repo": text, "state": {"enum": ["open", "closed", "all"]}},
        {"url": {**text, "format": "uri"}, "timeout": {"type": "number", "minimum": 0}},
        {"to": mail, "cc": {"type": "array", "items": mail}},
        {"start": {**text, "format": "date-time"}, "end": {**text, "format": "date-time"}},
        {"sql": text, "params": {"type": "array", "items": {"type": ["string", "number", "null"]}}},
        {"edits": {"type": "array", "items": edit}},
        {"filter": {"anyOf": [both, text]}},
        {"headers": {"type": "object", "additionalProperties": text}, "method": {"const": "GET"}},
        {"env": {"type": "object", "patternProperties": upper, **closed}},
        {"id": {"type": ["string", "integer"]}, "ids": {"oneOf": [whole, many]}},
        {"ratio": {"type": "number", "multipleOf": 0.05, "minimum": 0, "maximum": 1}},
        {"name": dotless, "ref": {**text, "pattern": "^[0-9a-f]{7,40}$"}},
    ]  # fmt: skip
    for place, shape in enumerate(shapes):
        for needed in (list(shape), list(shape)[:1]):
            yield f"mcp {place}", {
                "$schema": draft, "type": "object", "properties": shape, "required": needed,
            }  # fmt: skip


def of_suite(folder: Path) -> Iterator[tuple[str, Any]]:
    """The schemas of the test suite of draft 2020-12."""
    for file in sorted(folder.glob("**/tests/draft2020-12/*.json")):
        for group in json.loads(file.read_text(encoding="utf-8")):
            yield f"{file.stem}: {group['description']}", group["schema"]


def replies(model: T2Model, held: Constraint, seeds: int) -> list[str]:
    """What random scores write under a constraint."""
    ends, tokens = end_tokens(model), Tokens.of(model)
    rows = Constrained(model, [held] * seeds, ends=ends, limit=TOKENS, start=0)
    ids = torch.zeros((seeds, 0), dtype=torch.long)
    rng = torch.Generator().manual_seed(1)
    done = torch.zeros(seeds, dtype=torch.bool)
    for _ in range(TOKENS):
        scores = rows(ids, torch.randn((seeds, len(tokens.texts)), generator=rng))
        picked = scores.argmax(-1, keepdim=True)
        ids = torch.cat([ids, picked], 1)
        done |= torch.isin(picked[:, 0], torch.tensor(sorted(ends)))
        if done.all():
            break
    texts = []
    for row in ids.tolist():
        end = next((place for place, one in enumerate(row) if one in ends), len(row))
        texts.append(b"".join(tokens.texts[one] for one in row[:end]).decode(errors="replace"))
    return texts


def measure(folder: Path, schemas: int = 300, seeds: int = 10) -> dict[str, Any]:
    """Counts of replies and schemas, and the slowest compile in seconds."""
    model = build_text_model(3, context=4096)
    own = [*of_pydantic(), *of_mcp()]
    suite = list(of_suite(folder))
    step = max(1, len(suite) / max(1, schemas - len(own)))
    picked = [suite[int(place * step)] for place in range(int(len(suite) / step))]
    found: Counter[str] = Counter()
    silent: list[str] = []
    slowest, where = 0.0, ""
    for name, schema in [*own, *picked][:schemas]:
        given = schema if isinstance(schema, dict) else {"allOf": [schema]}
        response = {"type": "json_schema", "json_schema": {"name": "r", "schema": given}}
        start = time.perf_counter()
        try:
            form = ReplyForm.of({"response_format": response})
            held = form.constraint(model, Prompt.user("Go"))
            assert held is not None
            compiled(model, held)
        except T2Error as error:
            found["refused schemas"] += 1
            print("refused", name, "|", str(error)[:110], flush=True)
            continue
        finally:
            taken = time.perf_counter() - start
            if taken > slowest:
                slowest, where = taken, name
        made = replies(model, held, seeds)
        kind = jsonschema.validators.validator_for(given, jsonschema.Draft202012Validator)
        judge = kind(given, format_checker=kind.FORMAT_CHECKER)
        for text in made:
            try:
                value = json.loads(text)
            except ValueError:
                found["told"] += 1
                continue
            told = form.misfit(value)
            try:
                fits = judge.is_valid(value)
            except Exception as error:
                fits = False
                told = told or f"{type(error).__name__}"
            found["fits" if fits else "told" if told else "silent"] += 1
            if not fits:
                print("told" if told else "SILENT", name, text[:60], "|", told, flush=True)
            if not fits and not told:
                silent.append(f"{name}: {text[:100]}")
    return {**found, "slowest compile": (round(slowest, 2), where), "silent cases": silent}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sizes = [int(one) for one in sys.argv[2:4]]
    print(json.dumps(measure(Path(sys.argv[1]), *sizes), indent=1))
