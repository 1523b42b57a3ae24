"""A JSON schema taken apart into kinds: values of some types, with all that must hold at once.

References and what stands beside them, allOf, anyOf and conditions are merged into each kind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from t2agent.errors import GrammarError
from t2agent.replies import languages as regular
from t2agent.replies import ranges
from t2agent.replies.checking import Whole, whole
from t2agent.replies.formats import named
from t2agent.replies.languages import TEXT, Automaton, Language, LanguageError
from t2agent.replies.patterns import pattern

_TYPES = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_WAYS = 48  # alternatives into which a schema is taken apart


@dataclass(slots=True)
class Kind:
    """Values of some types, with all that must hold of them at once."""

    types: frozenset[str] = _TYPES
    values: list[Any] | None = None
    text: Language = TEXT
    bounds: dict[str, Any] = field(default_factory=dict)
    multiples: tuple[Any, ...] = ()
    objects: tuple[tuple[Mapping[str, Any] | None, Mapping[str, Any], Any], ...] = ()
    required: tuple[str, ...] = ()
    names: tuple[Any, ...] = ()
    arrays: tuple[tuple[Sequence[Any], Any], ...] = ()
    checks: bool = False  # whether more is asked than is held

    def __and__(self, other: Kind) -> Kind:
        values = self.values if other.values is None else other.values
        if self.values is not None and other.values is not None:
            values = [one for one in self.values if any(_same(one, two) for two in other.values)]
        bounds = dict(self.bounds)
        for key, value in other.bounds.items():
            pick = max if key.startswith(("min", "exclusiveMin")) else min
            bounds[key] = pick(bounds.get(key, value), value)
        types = {
            one
            for one in _TYPES
            if all(
                one in given or (one == "integer" and "number" in given)
                for given in (self.types, other.types)
            )
        }
        return Kind(
            frozenset(types), values, regular.both(self.text, other.text), bounds,
            self.multiples + other.multiples, self.objects + other.objects,
            tuple(dict.fromkeys(self.required + other.required)), self.names + other.names,
            self.arrays + other.arrays, self.checks or other.checks,
        )  # fmt: skip


class Parts:
    """Takes the parts of a schema apart.

    level: 0 for all that can be held; 1 without long patterns; 2 without what strings are held to.
    """

    def __init__(self, given: Whole, level: int) -> None:
        self.whole, self._level = given, level

    def kinds(self, schema: Any, seen: tuple[str, ...] = ()) -> list[Kind]:
        """The ways in which a value may fit, of one type or more each."""
        if schema is True:
            return [Kind()]
        if schema is False:
            return []
        found = [self._own(schema)]
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in seen:
                raise GrammarError(
                    "nothing fits the schema: it refers back to itself without an end; give one "
                    "that some JSON fits"
                )
            found = self._all(found, self.kinds(self.whole.targets[name], (*seen, name)))
        for one in schema.get("allOf", ()):
            found = self._all(found, self.kinds(one, seen))
        for several in ("anyOf", "oneOf"):
            if several in schema:
                ways = [kind for one in schema[several] for kind in self.kinds(one, seen)]
                if several == "oneOf" and len(schema[several]) > 1:
                    found = self._all(found, [Kind(checks=True)])
                found = self._all(found, ways)
        if "if" in schema:
            yes = self._all(
                self.kinds(schema["if"], seen), self.kinds(schema.get("then", True), seen)
            )
            no = self._all(self._not(schema["if"]), self.kinds(schema.get("else", True), seen))
            found = self._all(found, [*yes, *no])
        if "not" in schema:
            found = self._all(found, self._not(schema["not"]))
        for key, needed in schema.get("dependentRequired", {}).items():
            both = Kind(required=(key, *needed))
            found = self._all(found, [Kind(objects=(({key: False}, {}, None),)), both])
        for key, more in schema.get("dependentSchemas", {}).items():
            there = [Kind(required=(key,)) & one for one in self.kinds(more, seen)]
            found = self._all(found, [Kind(objects=(({key: False}, {}, None),)), *there])
        return found

    def _all(self, some: list[Kind], others: list[Kind]) -> list[Kind]:
        if len(some) * len(others) > _WAYS and len(others) > 1 and len(some) > 1:
            return [one & Kind(checks=True) for one in some]
        return [joined for a in some for b in others for joined in [a & b] if joined.types]

    def _own(self, schema: Mapping[str, Any]) -> Kind:
        kind = Kind()
        if "type" in schema:
            given = schema["type"]
            kind.types = frozenset([given] if isinstance(given, str) else given) & _TYPES
        if "const" in schema:
            kind.values = [schema["const"]]
        if "enum" in schema:
            kind.values = [
                one for one in schema["enum"] if kind.values is None or _same(one, kind.values[0])
            ]
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        texts = [regular.length(int(low), None if high is None else int(high))]
        if self._level >= 2:
            texts = []
        elif "pattern" in schema:
            texts.append(self._pattern(schema["pattern"], kind))
        if "format" in schema and self._level < 2:
            texts.append(named(str(schema["format"])))
            kind.checks = True  # not of every format: the check is the library's
        kind.text = regular.both(*texts)
        for key in (
            "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
            "minProperties", "maxProperties",
        ):  # fmt: skip
            if key in schema:
                kind.bounds[key] = schema[key]
        if "multipleOf" in schema:
            kind.multiples, kind.checks = (schema["multipleOf"],), True
        kind.required = tuple(schema.get("required", ()))
        if {"properties", "patternProperties", "additionalProperties"} & set(schema):
            kind.objects = (
                (
                    schema.get("properties"),
                    schema.get("patternProperties", {}),
                    schema.get("additionalProperties"),
                ),
            )
        if "propertyNames" in schema:
            kind.names = (schema["propertyNames"],)
        if {"prefixItems", "items"} & set(schema):
            kind.arrays = ((schema.get("prefixItems", ()), schema.get("items", True)),)
        kind.checks |= bool({"uniqueItems", "contains", "unevaluatedItems"} & set(schema))
        if schema.get("uniqueItems") is True:
            kind.bounds["uniqueItems"] = True
        if "contains" in schema and schema.get("minContains", 1) > 0:
            kind.bounds["minItems"] = max(kind.bounds.get("minItems", 0), 1)
        return kind

    def _pattern(self, given: str, kind: Kind) -> Language:
        try:
            return pattern(given)
        except (LanguageError, RecursionError):
            kind.checks = True
            return TEXT

    def _not(self, schema: Any) -> list[Kind]:
        """The ways in which a value does not fit; any, to be checked, where they cannot be told."""
        if isinstance(schema, bool):
            return [] if schema else [Kind()]
        ways: list[Kind] = []
        for key, given in schema.items():
            if key == "type":
                types = {given} if isinstance(given, str) else set(given)
                ways.append(Kind(_TYPES - types - ({"integer"} if "number" in types else set())))
                if "integer" in types and "number" not in types:
                    ways[-1].checks = True
            elif key in ("const", "enum") and all(
                isinstance(one, str) for one in ([given] if key == "const" else given)
            ):
                texts = [given] if key == "const" else given
                ways.append(Kind(_TYPES - {"string"}))
                text = regular.other(regular.either(*map(regular.literal, texts)))
                ways.append(Kind(frozenset({"string"}), text=text))
            elif key == "required":
                ways += [
                    Kind(frozenset({"object"}), objects=(({one: False}, {}, None),))
                    for one in given
                ]
            elif key == "properties":
                for name, one in given.items():
                    inner: Any = ({name: {"not": one}}, {}, None)
                    ways.append(Kind(frozenset({"object"}), objects=(inner,), required=(name,)))
            elif key == "pattern":
                own = Kind(frozenset({"string"}), checks=True)
                language = self._pattern(given, own)
                if language != TEXT:
                    own.text = regular.other(language)
                ways.append(own)
            elif key in ("minLength", "maxLength"):
                text = (
                    regular.length(0, given - 1)
                    if key == "minLength"
                    else regular.length(given + 1, None)
                )
                ways.append(Kind(frozenset({"string"}), text=text))
            elif key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
                turned = {
                    "minimum": "exclusiveMaximum", "exclusiveMinimum": "maximum",
                    "maximum": "exclusiveMinimum", "exclusiveMaximum": "minimum",
                }[key]  # fmt: skip
                ways.append(Kind(frozenset({"number"}), bounds={turned: given}))
            else:
                return [Kind(checks=True)]
        return [way & Kind(checks=True) for way in ways]

    # Values that are counted up

    def counted(self, kinds: Iterable[Kind], most: int, depth: int = 0) -> list[Any] | None:
        """All values; None where there are more than that."""
        found: list[Any] = []
        for kind in kinds:
            values = self._values(kind, most, depth)
            if values is None:
                return None
            found += [one for one in values if not any(_same(one, two) for two in found)]
            if len(found) > most:
                return None
        return found

    def _values(self, kind: Kind, most: int, depth: int) -> list[Any] | None:
        if kind.values is not None:
            return [one for one in kind.values if is_of(one, kind.types)]
        if depth > 3:
            return None
        found: list[Any] = []
        for name in kind.types:
            values: list[Any] | None = None
            if name == "null":
                values = [None]
            elif name == "boolean":
                values = [False, True]
            elif name in ("integer", "number"):
                values = ranges.steps(kind.bounds, kind.multiples, name, most)
            elif name == "array" and {"maxItems", "uniqueItems"} & set(kind.bounds):
                values = self._lists(kind, most, depth)
            elif name == "string" and kind.text != TEXT:
                automaton = self.automaton(kind.text)
                values = None if automaton is None else automaton.texts(most)
            if values is None:
                return None
            found += values
        return found

    def _lists(self, kind: Kind, most: int, depth: int) -> list[Any] | None:
        low, high = int(kind.bounds.get("minItems", 0)), int(kind.bounds.get("maxItems", 9))
        if "maxItems" not in kind.bounds:  # no more than there are values, or than can be tried
            items = self.counted(self.kinds(self.item(kind, None)), 16, depth + 1)
            if not items or any(prefix for prefix, _ in kind.arrays):
                return None
            tried = [size for size in range(1, len(items) + 1) if len(items) ** size <= 2 * most]
            high = max(tried, default=1)
        if high > 8:
            return None
        members = []
        for place in range(high):
            items = self.counted(self.kinds(self.item(kind, place)), 16, depth + 1)
            if items is None:
                return None
            members.append(items)
        found: list[Any] = []
        for size in range(low, high + 1):
            if math.prod(map(len, members[:size])) > 4 * most:
                return None
            found += map(list, product(*members[:size]))
        return found

    def automaton(self, text: Language) -> Automaton | None:
        """The language's automaton; None where it is too large."""
        try:
            return regular.automaton(text, 40 if self._level else regular.MOST)
        except (LanguageError, RecursionError):
            return None

    def item(self, kind: Kind, place: int | None) -> Any:
        """The schema of an item; None for those after all that have their own."""
        parts = [
            prefix[place] if place is not None and place < len(prefix) else rest
            for prefix, rest in kind.arrays
        ]
        return together(parts)

    def members(self, kind: Kind) -> list[tuple[str, Any, bool]]:
        """Declared properties: name, schema, whether it must be there."""
        names = dict.fromkeys(key for own, _, _ in kind.objects for key in own or ())
        names.update(dict.fromkeys(kind.required))
        return [
            (key, self._member(kind, key), key in kind.required)
            for key in names
            if self._may_be_named(kind, key)
        ]

    def _may_be_named(self, kind: Kind, key: str) -> bool:
        return all(self.whole.fitting(one)(key) for one in kind.names)

    def _member(self, kind: Kind, key: str) -> Any:
        parts = []
        for own, patterns, others in kind.objects:
            given = [own[key]] if own and key in own else []
            given += [one for found, one in patterns.items() if _found(found, key)]
            if not given and others is not None:
                given = [others]
            parts += given
        return together(parts)


def _found(pattern: str, key: str) -> bool:
    return re.search(pattern, key) is not None


def together(parts: Sequence[Any]) -> Any:
    """A schema of all of them."""
    kept = [one for place, one in enumerate(parts) if one is not True and one not in parts[:place]]
    if False in [one for one in kept if isinstance(one, bool)]:
        return False
    return True if not kept else kept[0] if len(kept) == 1 else {"allOf": kept}


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def is_of(value: Any, types: frozenset[str]) -> bool:
    """Whether a value is of one of the types."""
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return "number" in types or ("integer" in types and value == int(value))
    kinds = {str: "string", list: "array", dict: "object", type(None): "null"}
    return kinds[type(value)] in types


def members(schema: Any) -> list[tuple[str, Any, bool]]:
    """The properties of an object: name, schema (as of a `Whole`), whether it must be there.

    Raises GrammarError as `whole`.
    """
    parts = Parts(whole(schema), 0)
    found = [kind for kind in parts.kinds(parts.whole.root) if "object" in kind.types]
    named: dict[str, tuple[list[Any], bool]] = {}
    for kind in found:
        for name, one, must in parts.members(kind):
            some, needed = named.get(name, ([], True))
            named[name] = ([*some, *([] if one in some else [one])], needed and must)
    needing = [set(kind.required) for kind in found]
    return [
        (
            name,
            some[0] if len(some) == 1 else {"anyOf": some},
            all(name in one for one in needing),
        )
        for name, (some, _) in named.items()
        if some != [False]
    ]
