"""Whether a value fits a JSON schema, for the parts of JSON schema that the tests use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip


def fits(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> bool:
    """Whether the value is of the schema; ``root`` holds what is referred to."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(fits(value, one, root) for one in schema["anyOf"])
    if "enum" in schema:
        return any(value == one and type(value) is type(one) for one in schema["enum"])
    kind = schema.get("type")
    if kind is not None and not isinstance(value, _TYPES[kind]):
        return False
    if isinstance(value, bool) and kind != "boolean" and kind is not None:
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None and (
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        )
    if isinstance(value, list):
        return schema.get("minItems", 0) <= len(value) <= schema.get(
            "maxItems", len(value)
        ) and all(fits(one, schema.get("items", {}), root) for one in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        closed = bool(known) or schema.get("additionalProperties") is False
        return (
            set(schema.get("required", ())) <= set(value)
            and not (closed and set(value) - set(known))
            and all(fits(one, known.get(key, {}), root) for key, one in value.items())
        )
    if isinstance(value, int | float):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True
