"""JSON schemas made whole: of one dialect, with all that they refer to, and the check of a reply.

What decoding cannot hold is told here: every finished call, and every reply that must be JSON, is
checked against its schema as it was given.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import jsonschema
import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema_specifications import REGISTRY
from referencing.jsonschema import DRAFT202012

from t2agent.errors import GrammarError

Schema = Mapping[str, Any]

_ONE = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties", "additionalItems",
)  # fmt: skip
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_LEFT: tuple[str, ...] = (
    "$id",
    "id",
    "$schema",
    "$anchor",
    "$dynamicAnchor",
    "$defs",
    "definitions",
    "$comment",
)
_LEFT += ("title", "description", "default", "examples", "$vocabulary", "$recursiveAnchor")
_DEEP = 80  # schemas within schemas
_KEPT = 256  # schemas that are remembered


@dataclass(frozen=True, slots=True)
class Whole:
    """A schema that needs no other.

    Attributes:
        root: the schema; references are #/$defs/NUMBER.
        targets: what is referred to.
        validator: what checks a value against it.
    """

    root: Any
    targets: dict[str, Any]
    validator: Any

    def problem(self, value: Any) -> str | None:
        """Why a value does not fit; None where it does."""
        try:
            found = jsonschema.exceptions.best_match(self.validator.iter_errors(value))
        except RecursionError:
            return "it is nested too deep to be checked"
        if found is None:
            return None
        place = "".join(f"[{step!r}]" for step in found.absolute_path)
        return f"{place or 'the whole'}: {found.message:.300}"

    def fitting(self, schema: Any) -> Callable[[Any], bool]:
        """Tells whether a value fits a part of it."""
        part = {"allOf": [schema], "$defs": self.targets}
        valid = Draft202012Validator(part, format_checker=Draft202012Validator.FORMAT_CHECKER)
        return lambda value: bool(valid.is_valid(value))


_KNOWN: OrderedDict[str, Whole] = OrderedDict()
_LOCK = Lock()


def whole(schema: Schema | bool) -> Whole:
    """The schema with all that it refers to, read once.

    Raises GrammarError for what is no JSON or no schema, a reference that leads nowhere or back to
    itself, and a pattern that cannot be read: the message names the place.
    """
    try:
        key = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise GrammarError(
            f"a schema is no JSON: {error}; give one of strings, numbers, lists and dicts"
        ) from error
    with _LOCK:
        found = _KNOWN.get(key)
        if found is not None:
            _KNOWN.move_to_end(key)
            return found
    found = _read(json.loads(key))
    with _LOCK:
        _KNOWN[key] = found
        while len(_KNOWN) > _KEPT:
            _KNOWN.popitem(last=False)
    return found


def _read(schema: Any) -> Whole:
    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = REGISTRY.resolver_with_root(resource)
    walk = _Walk()
    try:
        root = walk.schema(schema, resolver, "", 0)
    except RecursionError:
        raise GrammarError("a schema is nested too deep; give a flatter one") from None
    document = {"allOf": [root], "$defs": walk.targets}
    try:
        Draft202012Validator.check_schema(document)
    except jsonschema.SchemaError as error:
        place = ".".join(str(one) for one in list(error.absolute_path)[2:])
        raise GrammarError(
            f"it is no JSON schema at {place or 'its root'}: {error.message:.200}; mend it there"
        ) from error
    checker: FormatChecker = Draft202012Validator.FORMAT_CHECKER
    return Whole(root, walk.targets, Draft202012Validator(document, format_checker=checker))


@dataclass(slots=True)
class _Walk:
    """Copies a schema, in today's dialect, and collects what it refers to."""

    targets: dict[str, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    held: list[Any] = field(default_factory=list)  # so that no id is given twice

    def schema(self, given: Any, resolver: Any, place: str, depth: int) -> Any:
        if isinstance(given, bool):
            return given
        where = place or "its root"
        if not isinstance(given, Mapping):
            raise GrammarError(f"it is no JSON schema at {where}: {given!r:.100}; give an object")
        if depth > _DEEP:
            raise GrammarError(f"a schema is nested more than {_DEEP} deep at {place:.100}")
        if depth and isinstance(given.get("$id", given.get("id")), str):
            inner = DRAFT202012.create_resource(given)
            if inner.id() is not None:
                resolver = resolver.in_subresource(inner)
        found: dict[str, Any] = {}
        for key, value in given.items():
            at = f"{place}.{key}".removeprefix(".")
            if key in _LEFT:
                continue
            if key in ("$ref", "$dynamicRef", "$recursiveRef"):
                found["$ref"] = self.reference(str(value), resolver, at, depth)
            elif key in _SEVERAL or (key == "items" and isinstance(value, list)):
                if not isinstance(value, list):
                    raise GrammarError(f"it is no JSON schema at {at}: {value!r:.100}; give a list")
                found[key] = [
                    self.schema(one, resolver, f"{at}[{n}]", depth + 1)
                    for n, one in enumerate(value)
                ]
            elif key in _ONE:
                found[key] = self.schema(value, resolver, at, depth + 1)
            elif key in _NAMED and isinstance(value, Mapping):
                found[key] = {
                    name: self.schema(one, resolver, f"{place}.{name}".strip("."), depth + 1)
                    for name, one in value.items()
                }
            elif key == "dependencies" and isinstance(value, Mapping):
                for name, one in value.items():
                    kind = "dependentRequired" if isinstance(one, list) else "dependentSchemas"
                    more = (
                        one if isinstance(one, list) else self.schema(one, resolver, at, depth + 1)
                    )
                    found.setdefault(kind, {})[name] = more
            else:
                found[key] = value
        return _modern(found, where)

    def reference(self, reference: str, resolver: Any, place: str, depth: int) -> str:
        try:
            found = resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError, TypeError) as error:
            raise GrammarError(
                f"no grammar can be made of {place}: {reference!r} is not in the schema; give it "
                "there under $defs"
            ) from error
        name = self.names.get(id(found.contents))
        if name is None:
            name = self.names[id(found.contents)] = str(len(self.names))
            self.held.append(found.contents)
            self.targets[name] = self.schema(found.contents, found.resolver, place, depth + 1)
        return f"#/$defs/{name}"


def _modern(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """The schema in the words of draft 2020-12."""
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        if "additionalItems" in schema:
            schema["items"] = schema["additionalItems"]
    schema.pop("additionalItems", None)
    for limit, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(strict), bool) and schema.pop(strict) and limit in schema:
            schema[strict] = schema.pop(limit)
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    for pattern in [schema.get("pattern"), *schema.get("patternProperties", {})]:
        if isinstance(pattern, str):
            _readable(pattern, where)
    return schema


def _readable(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise GrammarError(
            f"the pattern {pattern!r:.100} at {where} can be neither held nor checked: {error}; "
            "write it without that"
        ) from error
