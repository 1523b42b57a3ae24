"""Arguments that are written one by one as text instead of as one JSON object.

A string is written as it is, without quotes; any other value as JSON. What a text stands for is
told by the argument's schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    return _options(schema, root, _DEPTH)


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
        return _options(referenced(reference, root), root, depth - 1)
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


def referenced(reference: str, root: Schema) -> Any:
    """What a reference within a schema leads to; None where nothing is there."""
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
