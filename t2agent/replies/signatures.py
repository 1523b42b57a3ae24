"""Schemas of JSON as type annotations of TypeScript, which say the same in half of the tokens.

A prompt is read faster so, and a small model finds a name next to its type. What a type cannot say
(a default, a range, a pattern) stands in a comment; a schema that no type can say is written as
the JSON that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t2agent.replies.schemas import Schema, choices, parameters, properties, referenced

_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_TYPES = frozenset({"integer", "number", "boolean", "string", "null"})
# Said by the type, or by nothing: titles repeat names.
_SAID = {"type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf",
         "$ref", "$defs", "definitions", "title", "description", "$schema", "$id"}  # fmt: skip
_REFERENCES = 64  # followed in one schema, before it is written as JSON


class _Unsaid(Exception):  # noqa: N818  # no error: the JSON is written instead
    """No type says it."""


def signature(function: Mapping[str, Any]) -> str:
    """A function of OpenAI's tools as ``name(argument: type, optional?: type)``.

    Its description is a comment before it, those of its arguments after each. Arguments that no
    type can say are a JSON schema.
    """
    schema = parameters(function)
    name = str(function["name"])
    try:
        shown = f"{name}({_Writer(schema).arguments()})"
    except _Unsaid:
        shown = f"{name}({_json(schema)})"
    return _described(function, shown)


def type_of(schema: Schema) -> str:
    """A schema as a type; as JSON where no type says it."""
    try:
        shown = _Writer(schema).type(schema)
    except _Unsaid:
        return _json(schema)
    return _described(schema, shown)


def _described(given: Mapping[str, Any], shown: str) -> str:
    """With the description before it, as a comment."""
    about = _line(given.get("description"))
    return f"// {about}\n{shown}" if about else shown


class _Writer:
    """Writes the parts of one schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._followed = 0

    def arguments(self) -> str:
        """The properties of the root, where it is a plain object."""
        schema = self._resolved(self._root)
        if {"anyOf", "oneOf"} & set(schema):
            raise _Unsaid
        return self.members(schema)

    def members(self, schema: Schema, indent: str = "") -> str:
        """The properties of an object: in one line, or each with its comment in its own."""
        required = schema.get("required") or ()
        found = []
        for name, one in properties(schema).items():
            own = self._resolved(one)
            written = name if _NAME.fullmatch(name) else _json(name)
            mark = "" if name in required else "?"
            found.append((f"{written}{mark}: {self.type(own, indent + '  ')}", _note(name, own)))
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and more:
            own = self._resolved(more)
            found.append((f"[key: string]: {self.type(own, indent + '  ')}", _note("", own)))
        if not any(note for _, note in found):
            return ", ".join(text for text, _ in found)
        lines = (f"\n{indent}  {text}" + (f" // {note}" if note else "") for text, note in found)
        return "".join(lines) + f"\n{indent}"

    def type(self, given: Any, indent: str = "") -> str:
        """The type of a schema."""
        return " | ".join(self._union(given, indent))

    def _union(self, given: Any, indent: str) -> list[str]:
        kinds = list(dict.fromkeys(self._kinds(self._resolved(given), indent)))
        return ["any"] if "any" in kinds else kinds

    def _kinds(self, schema: Schema, indent: str) -> Iterator[str]:
        allowed = choices(schema)
        if allowed is not None:
            yield from map(_json, allowed)
            return
        for several in ("anyOf", "oneOf"):
            if isinstance(schema.get(several), Sequence):
                if {"type", "properties"} & set(schema):
                    raise _Unsaid
                for one in schema[several]:
                    yield from self._union(one, indent)
                return
        kind: Any = schema.get("type", "object" if "properties" in schema else None)
        for one in kind if isinstance(kind, list | tuple) else [kind]:
            yield self._kind(one, schema, indent)

    def _kind(self, kind: Any, schema: Schema, indent: str) -> str:
        if kind == "array":
            items = self._union(schema.get("items", {}), indent)
            return f"{items[0]}[]" if len(items) == 1 else f"({' | '.join(items)})[]"
        if kind == "object":
            return f"{{{inside}}}" if (inside := self.members(schema, indent)) else "object"
        return kind if kind in _TYPES else "any"

    def _resolved(self, given: Any) -> Schema:
        """A schema without its reference; what stands beside a reference counts."""
        if given is True:
            return {}
        if not isinstance(given, Mapping):
            raise _Unsaid
        whole = given.get("allOf")
        if isinstance(whole, list | tuple):
            if len(whole) != 1:
                raise _Unsaid
            return {**self._resolved(whole[0]), **{k: v for k, v in given.items() if k != "allOf"}}
        reference = given.get("$ref")
        if reference is None:
            return given
        self._followed += 1
        found = referenced(str(reference), self._root)
        if self._followed > _REFERENCES or not isinstance(found, Mapping):
            raise _Unsaid  # one that leads back to itself, too
        return {**self._resolved(found), **{k: v for k, v in given.items() if k != "$ref"}}


def _note(name: str, schema: Schema) -> str:
    """What a comment says of a property: its description, unless that is its name, and what the
    type leaves out."""
    about = _line(schema.get("description"))
    if _plain(about) == _plain(name):
        about = ""
    rest = {key: value for key, value in schema.items() if key not in _SAID}
    items = schema.get("items")  # they have no line of their own
    if isinstance(items, Mapping) and (described := _note(name, items)):
        rest["items"] = described
    more = [
        f"{key}: {value if isinstance(value, str) else _json(value)}"
        for key, value in rest.items()
        if not (key == "additionalProperties" and (value is False or isinstance(value, Mapping)))
        and not (key == "default" and value is None)
    ]
    return "; ".join([about, *more] if about else more)


def _plain(text: str) -> str:
    return _WORDS.sub(" ", text).strip().lower()


def _line(text: object) -> str:
    """A text in one line."""
    return " ".join(text.split()) if isinstance(text, str) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
