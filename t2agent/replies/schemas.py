"""Arguments that are written one by one as text instead of as one JSON object.

A string is written as it is, without quotes; any other value as JSON. What a text stands for is
told by the argument's schema.

The text of JSON schemas: what it holds, and how much of it is asked for at least.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_CONSTRAINED = {"pattern", "format", "minLength", "maxLength"}
_DEPTH = 32  # references followed before a schema counts as endless

Schema = Mapping[str, Any]


class ArgumentSchemas:
    """What the arguments of each tool may be, by the schemas of OpenAI's function tools."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._schemas = {tool["function"]["name"]: parameters(tool["function"]) for tool in tools}

    @property
    def names(self) -> frozenset[str]:
        """The tools' names."""
        return frozenset(self._schemas)

    def read(self, tool: str, argument: str, text: str) -> Any:
        """The value that an argument's text stands for; the text itself where nothing is known."""
        root = self._schemas.get(tool, {})
        schema = properties(root).get(argument)
        if schema is None:
            return text
        try:
            value = json.loads(text, strict=False)
        except ValueError:
            return text
        kinds = options(schema, root)
        fits = any(not is_text(one) and _is(value, one) for one in kinds)
        return value if fits or not any(map(is_text, kinds)) else text


def parameters(function: Mapping[str, Any]) -> Schema:
    """The schema of a function's arguments; of none at all where it tells nothing."""
    given = function.get("parameters")
    return given if isinstance(given, Mapping) and given else {"type": "object", "properties": {}}


def properties(schema: Schema) -> Mapping[str, Any]:
    """The schemas of an object's properties."""
    given = schema.get("properties")
    return given if isinstance(given, Mapping) else {}


def options(schema: Any, root: Schema) -> list[Schema]:
    """The kinds of value of a schema, each without references and alternatives."""
    return list(_options(schema, root, _DEPTH))


def is_text(schema: Schema) -> bool:
    """Whether values of this kind, one of `options`, are strings."""
    allowed = choices(schema)
    if allowed is not None:
        return bool(allowed) and all(isinstance(one, str) for one in allowed)
    kind: object = schema.get("type", "string")
    return kind == "string"


def is_free(schema: Schema) -> bool:
    """Whether any string will do."""
    return is_text(schema) and choices(schema) is None and not _CONSTRAINED & set(schema)


def choices(schema: Schema) -> Sequence[Any] | None:
    """The values that a schema counts up; None where it does not."""
    if "const" in schema:
        return [schema["const"]]
    given = schema.get("enum")
    return given if isinstance(given, list | tuple) else None


def _options(schema: Any, root: Schema, depth: int) -> list[Schema]:
    if not isinstance(schema, Mapping) or not depth:
        return [{}]
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _options(_resolved(reference, root), root, depth - 1)
    for several in ("anyOf", "oneOf"):
        if isinstance(schema.get(several), list | tuple):
            return [o for one in schema[several] for o in _options(one, root, depth - 1)]
    whole = schema.get("allOf")
    if isinstance(whole, list | tuple) and len(whole) == 1:
        return _options(whole[0], root, depth - 1)
    kinds = schema.get("type")
    if isinstance(kinds, list | tuple):
        return [{**schema, "type": kind} for kind in kinds]
    allowed = choices(schema)
    if allowed is not None and len({isinstance(one, str) for one in allowed}) == 2:
        strings = [one for one in allowed if isinstance(one, str)]
        others = [one for one in allowed if not isinstance(one, str)]
        return [{"enum": strings}, {"enum": others}]
    return [schema]


def _resolved(reference: str, root: Schema) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _is(value: Any, schema: Schema) -> bool:
    """Whether a value is of a schema's kind, one of `options` that is no text."""
    allowed = choices(schema)
    if allowed is not None:
        return any(value == one and type(value) is type(one) for one in allowed)
    kinds: Mapping[str, tuple[type, ...]] = {
        "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
        "array": (list,), "object": (dict,),
    }  # fmt: skip
    known = kinds.get(str(schema.get("type")), ())
    return isinstance(value, known) and (bool in known or not isinstance(value, bool))


_TEXT_DEPTH = 6  # objects within objects that are looked into
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


def least(schema: Any, root: Schema, depth: int = _TEXT_DEPTH) -> str:
    """About the shortest JSON of a schema; patterns count as they are written."""
    found = (_least(one, root, depth) for one in options(schema, root))
    return min(found, key=len, default="0")


def longest_part(schema: Any, root: Schema) -> str:
    """The longest `least` of anything that JSON of a schema may begin within it."""
    return max(_parts(schema, root, _TEXT_DEPTH), key=len, default="")


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
