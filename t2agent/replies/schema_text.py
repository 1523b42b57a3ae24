"""The text of JSON schemas: what it holds, and how much of it is asked for at least."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from t2agent.replies.schemas import Schema, choices, options, properties

_DEPTH = 6  # objects within objects that are looked into
LETTER = "[ !#-;=-\\[\\]-\ud7ff\ue000-\U0010ffff]"
"""A regular expression for a character that JSON writes as it is, "<" left out."""
_IN_JSON = LETTER.replace(";=", "")
_WITHIN = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_MANY = 64  # items or characters that a schema may ask for and that are written out


def bounded(schema: Any) -> Any:
    """The schema, with strings of a limited length told by a pattern.

    xgrammar counts half a surrogate pair as one character, which no decoder does, and lets such
    strings hold control characters, which JSON does not.
    """
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key in _WITHIN:
        if isinstance(found.get(key), Mapping):
            found[key] = bounded(found[key])
    for key in _LISTS:
        if isinstance(found.get(key), list | tuple):
            found[key] = [bounded(one) for one in found[key]]
    for key in _NAMED:
        if isinstance(found.get(key), Mapping):
            found[key] = {name: bounded(one) for name, one in found[key].items()}
    kind = found.get("type")
    text = kind == "string" or (isinstance(kind, list | tuple) and "string" in kind)
    if text and not {"pattern", "format", "enum", "const"} & set(found):
        low, high = found.pop("minLength", 0), found.pop("maxLength", "")
        if low or high != "":
            found["pattern"] = f"^{_IN_JSON}{{{low},{high}}}$"
    return found


def least(schema: Any, root: Schema, depth: int = _DEPTH) -> str:
    """About the shortest JSON of a schema; patterns count as they are written."""
    found = (_least(one, root, depth) for one in options(schema, root))
    return min(found, key=len, default="0")


def longest_part(schema: Any, root: Schema) -> str:
    """The longest `least` of anything that JSON of a schema may begin within it."""
    return max(_parts(schema, root, _DEPTH), key=len, default="")


def _least(schema: Schema, root: Schema, depth: int) -> str:
    allowed = choices(schema)
    if allowed:
        return min((json.dumps(one, ensure_ascii=False) for one in allowed), key=len)
    kind = schema.get("type")
    if kind == "string":
        size = min(_count(schema, "minLength"), _MANY)
        pattern = str(schema.get("pattern", "")) + ("2026-01-01T00:00:00Z" * ("format" in schema))
        return json.dumps(pattern or "a" * size)
    if kind == "array" and depth:
        size = min(_count(schema, "minItems"), _MANY)
        return "[" + ", ".join([least(schema.get("items"), root, depth - 1)] * size) + "]"
    if kind == "object" and depth:
        required = schema.get("required")
        needed = required if isinstance(required, list | tuple) else ()
        pairs = [
            _pair(key, one, root, depth - 1)
            for key, one in properties(schema).items()
            if key in needed
        ]
        return "{" + ", ".join(pairs) + "}"
    known = {"integer": "0", "number": "0", "boolean": "true", "null": "null", "object": "{}"}
    return known.get(str(kind), "[]")


def _parts(schema: Any, root: Schema, depth: int) -> Iterator[str]:
    for one in options(schema, root):
        yield _least(one, root, depth)
        if depth:
            for key, value in properties(one).items():
                yield _pair(key, value, root, depth - 1)
                yield from _parts(value, root, depth - 1)
            for more in ("items", "additionalProperties"):
                if isinstance(one.get(more), Mapping):
                    yield from _parts(one[more], root, depth - 1)


def _pair(key: str, schema: Any, root: Schema, depth: int) -> str:
    return f"{json.dumps(key, ensure_ascii=False)}: {least(schema, root, depth)}"


def _count(schema: Schema, name: str) -> int:
    given = schema.get(name)
    return given if isinstance(given, int) and given > 0 else 0
