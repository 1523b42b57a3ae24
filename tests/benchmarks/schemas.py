"""Replies on random weights against schemas of public collections: what fits, what is told.

    python -m tests.benchmarks.schemas FOLDER TOKENIZER [--schemas 300] [--seeds 10] [--part 1/2]

FOLDER: JSON Schema's own test suite, as the source distribution of `jsonschema` holds it (json/).
Beside it stand pydantic models and tools as MCP servers describe them, written here. TOKENIZER: a
folder with a tokenizer and a chat template, such as Qwen 2's. The model is a small Llama with
random weights for its tokens, and ChatT2 asks it as a user would, at temperature 1: for structured
output, and for a call of a tool whose argument the schema is. Schemas with references within
themselves are no argument's, and are asked for as structured output alone.

"fits": the value fits its schema by `jsonschema`; "told": the schema is refused when it is bound,
the reply raises, or the call is invalid with its reason; "silent": neither. A compile lasts from
binding to the first token, in seconds of a processor; with --seeds 0 there is nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import enum
import json
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
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from t2agent import ChatT2
from t2agent.errors import T2Error
from t2agent.models.model import T2Model

TOKENS = 64


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


def small_model(tokenizer: Path) -> T2Model:
    """A Llama of three layers, 64 wide, with random weights; every token is about as likely."""
    made = AutoTokenizer.from_pretrained(tokenizer)
    ids = {"bos_token_id": None, "eos_token_id": made.eos_token_id}
    ids["pad_token_id"] = made.pad_token_id
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32_768, **ids,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    return T2Model(model, made, name="random")


def chosen_schemas(folder: Path, count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many: those written here, and the rest spread over the suite."""
    own = [*of_pydantic(), *of_mcp()]
    suite = list(of_suite(folder))
    step = max(1, len(suite) / max(1, count - len(own)))
    picked = [suite[int(place * step)] for place in range(int(len(suite) / step))]
    found = [*own, *picked][:count]
    return [(name, one if isinstance(one, dict) else {"allOf": [one]}) for name, one in found]


def as_json(chat: ChatT2, schema: dict[str, Any], asked: list[str]) -> Iterator[tuple[Any, str]]:
    """The value of each reply, and why it is none; "" where it is one."""
    bound = chat.with_structured_output({"title": "r", **schema}, include_raw=True)
    for reply in bound.batch(asked):
        yield reply["parsed"], str(reply["parsing_error"] or "")


def as_call(chat: ChatT2, schema: dict[str, Any], asked: list[str]) -> Iterator[tuple[Any, str]]:
    """The same for the argument of a call."""
    plain = {key: one for key, one in schema.items() if key != "$schema"}
    parameters = {"type": "object", "properties": {"value": plain}, "required": ["value"]}
    function = {"name": "keep", "description": "Keeps a value.", "parameters": parameters}
    tool = {"type": "function", "function": function}
    bound = chat.bind_tools([tool], tool_choice="any", parallel_tool_calls=False)
    for reply in bound.batch(asked):
        bad = [f"{one['error']}: {one['args']}" for one in reply.invalid_tool_calls]
        for call in reply.tool_calls or [None]:
            told = "; ".join(bad) or ("" if call else f"no call: {reply.content!r:.80}")
            yield (call["args"].get("value") if call else None), told


def measure(
    folder: Path, tokenizer: Path, schemas: int, seeds: int, part: tuple[int, int]
) -> dict[str, Any]:
    """Counts of replies and schemas, and the slowest compiles in seconds."""
    model = small_model(tokenizer)
    chat, first = (
        ChatT2(model, dispatch="off", temperature=1.0, max_tokens=size, seed=1, max_tools=None)
        for size in (TOKENS, 1)
    )
    asked = [f"Go on, {n}" for n in range(seeds)]  # each prompt has draws of its own
    list(as_json(first, {"type": "null"}, ["Go"]))  # loads what is loaded once
    found: Counter[str] = Counter()
    silent: list[str] = []
    slowest: list[tuple[float, str]] = []
    for name, schema in chosen_schemas(folder, schemas)[part[0] - 1 :: part[1]]:
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        judge = kind(schema, format_checker=kind.FORMAT_CHECKER)
        for way in (as_json,) if _refers(schema) else (as_json, as_call):
            case = f"{way.__name__[3:]} {name}"
            start = time.process_time()
            try:
                list(way(first, schema, ["Go"]))
            except T2Error as error:
                found["refused schemas"] += 1
                print("refused", case, "|", str(error)[:110], flush=True)
                continue
            finally:
                taken = round(time.process_time() - start, 2)
                slowest.append((taken, case))
                print(taken, "s", case, flush=True)
            for value, told in way(chat, schema, asked):
                fits = not told and _fits(judge, value)
                found["fits" if fits else "told" if told else "silent"] += 1
                if not fits:
                    print("told" if told else "SILENT", case, f"| {told or value!r:.200}")
                if not fits and not told:
                    silent.append(f"{case}: {value!r:.100}")
    return {**found, "slowest compiles": sorted(slowest)[-5:], "silent cases": silent}


def _refers(schema: Any) -> bool:
    return any(word in json.dumps(schema) for word in ('Ref"', '$ref"', '$id"'))


def _fits(judge: Any, value: Any) -> bool:
    try:
        return bool(judge.is_valid(value))
    except Exception:  # a reference that leads nowhere, by the judge
        return False


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--schemas", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--part", default="1/1", help="such as 1/2: every second schema")
    told = parser.parse_args()
    part, parts = map(int, told.part.split("/"))
    made = measure(told.folder, told.tokenizer, told.schemas, told.seeds, (part, parts))
    print(json.dumps(made, indent=1))
