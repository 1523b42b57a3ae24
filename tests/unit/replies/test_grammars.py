"""Schemas as grammars: what a random walk through one writes fits the schema."""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any

import jsonschema
import pytest
import torch
import xgrammar

from t2agent.errors import GrammarError
from t2agent.models.closing import ending
from t2agent.models.compiling import Tokens
from t2agent.replies.checking import whole
from t2agent.replies.grammars import grammar
from t2agent.replies.kinds import members
from t2agent.replies.languages import Language, LanguageError, automaton
from t2agent.replies.patterns import pattern
from tests.unit.replies.families import random_model

INTEGER = {"type": "integer"}
SMALL = {"type": "integer", "minimum": 1, "maximum": 3}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def walk(schema: Any, seed: int, steps: int = 60, **options: Any) -> str:
    """A text of the grammar: random tokens, each of which must be taken, and then its end."""
    made = grammar(schema, **options)
    tokens = Tokens.of(random_model(False))
    matcher = xgrammar.GrammarMatcher(tokens.compiler.compile_grammar(made.ebnf))
    size, rng, text = len(tokens.texts), random.Random(seed), b""
    mask = xgrammar.allocate_token_bitmask(1, size)
    stops = set(matcher.stop_token_ids)
    for _ in range(rng.randrange(steps)):
        matcher.fill_next_token_bitmask(mask, 0)
        bits = (mask[0][:, None] >> torch.arange(32)) & 1
        allowed = [one for one in bits.flatten().nonzero().flatten().tolist() if one not in stops]
        allowed = [one for one in allowed if one < size and one not in tokens.special]
        if not allowed:
            break
        token = rng.choice(allowed)
        assert matcher.accept_token(token), (text, tokens.texts[token])
        text += tokens.texts[token]
    end = ending(matcher, (), [tail.encode() for tail in made.tails])
    assert end is not None, text
    return (text + end).decode()


HELD: dict[str, Any] = {
    "a length of 128": of(a={"type": "string", "maxLength": 128}),
    "a length of 129": of(a={"type": "string", "maxLength": 129}),
    "at least 130": of(a={"type": "string", "minLength": 130, "maxLength": 255}),
    "a length of 5000": of(a={"type": "string", "maxLength": 5000}),
    "pattern and length": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
    "format and length": {"type": "string", "format": "email", "maxLength": 8},
    "enum and length": {"type": "string", "enum": ["abc", "b"], "maxLength": 1},
    "allOf of two": {"allOf": [of(a=INTEGER), of(b=INTEGER)]},
    "anyOf beside properties": {
        "type": "object", "properties": {"a": INTEGER, "b": INTEGER},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "$ref beside a bound": {
        **of(x={"$ref": "#/$defs/S", "maxLength": 2}), "$defs": {"S": {"type": "string"}},
    },
    "allOf beside a bound": {"type": "integer", "minimum": 5, "allOf": [{"maximum": 9}]},
    "uniqueItems": {
        "type": "array", "items": SMALL, "minItems": 3, "maxItems": 3, "uniqueItems": True,
    },
    "contains": {
        "type": "array", "items": SMALL, "minItems": 1, "maxItems": 2, "contains": {"const": 3},
    },
    "not": {**SMALL, "not": {"const": 2}},
    "not a text": {"type": "string", "maxLength": 2, "not": {"enum": ["", "a"]}},
    "if and then": {
        "type": "object", "properties": {"k": {"enum": ["a", "b"]}, "v": INTEGER},
        "required": ["k"], "if": {"properties": {"k": {"const": "a"}}},
        "then": {"required": ["v"]},
    },
    "dependentRequired": {
        "type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a"],
        "dependentRequired": {"a": ["b"]},
    },
    "required, not declared": {**of(a=INTEGER), "required": ["a", "z"]},
    "multiples of a half": {"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.5},
    "multiples of 2000": {"type": "integer", "multipleOf": 2000, "minimum": 1},
    "multiples of 7": {"type": "integer", "multipleOf": 7},
    "a range below 0": {"type": "number", "exclusiveMinimum": -1.5, "maximum": -0.25},
    "a range": {"type": "integer", "minimum": -12, "maximum": 345},
    "a tiny number": {"type": "number", "minimum": 1e-300, "maximum": 2e-300},
    "type beside enum": {"type": "string", "enum": ["a", 3]},
    "an anchor": {**of(x={"$ref": "#foo"}), "$defs": {"A": {"$anchor": "foo", **INTEGER}}},
    "propertyNames": {
        "type": "object", "additionalProperties": INTEGER, "propertyNames": {"maxLength": 3},
        "minProperties": 1, "maxProperties": 3,
    },
    "patternProperties": {
        "type": "object", "patternProperties": {"^a": INTEGER, "b$": {"type": "string"}},
        "additionalProperties": False,
    },
    "items of their own": {
        "type": "array", "prefixItems": [INTEGER, {"type": "null"}], "items": {"type": "boolean"},
        "minItems": 1, "maxItems": 4,
    },
    "a tree": {
        "$defs": {"T": {
            "type": "object",
            "properties": {"v": INTEGER, "c": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
            "required": ["v"],
        }},
        "$ref": "#/$defs/T",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_what_is_held(name: str) -> None:
    schema = HELD[name]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    judge = jsonschema.Draft202012Validator(schema, format_checker=checker)
    for seed in range(6):
        text = walk(schema, seed)
        assert judge.is_valid(json.loads(text)), text


@pytest.mark.parametrize(
    "given",
    [
        r"^[A-Z]:\\[a-z]+$", '^"[a-z]+"$', r"^a\nb$", r"^\t$", "^(?!a)[a-c]{2}$",
        "^(?=.*[0-9])[a-c0-9]{3}$", "(?<=a)b", r"^\bab\b$", r"\bfoo\b", "^a|b$", "(^a|b)c",
        r"^[\w.-]+@[\w-]+\.[a-z]{2,}$", r"^[A-Za-z0-9_]+\.(png|jpg)$", "^[a-z]+-[0-9]+$",
        r"^(?=.*[A-Z])(?=.*\d).{8,16}$", r"^[^\s\"]+$", "^[a-z]{1,200}$", r"^\x07[\u00e9-\u00ff]$",
        r"^(?!.*\.\.)[a-z.]+$", "^[a-z]{1,8000}$",
    ],
)  # fmt: skip
def test_patterns_are_held_and_closed(given: str) -> None:
    schema = of(x={"type": "string", "pattern": given})
    for seed in range(4):
        value = json.loads(walk(schema, seed))["x"]
        assert re.search(given, value), value


@pytest.mark.parametrize(
    "name", ["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "uri", "json-pointer"]
)
def test_formats_are_held_in_plain_text(name: str) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    schema = of(x={"type": "string", "format": name})
    [(_, part, _)] = members(schema)
    for seed in range(4):
        text = walk(schema, seed, part=part, plain="</x>")
        assert checker.conforms(text, name), text
        assert "</x>" not in text


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "refers back to itself"),
        ({"$ref": "#/$defs/A", "$defs": {"A": of(x={"$ref": "#/$defs/A"})}}, "nothing fits"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "nothing fits"),
        ({"type": "string", "enum": [3]}, "nothing fits"),
        (False, "nothing fits"),
        (of(x={"type": "string", "pattern": r"^\p{L}+$"}), r"\\p\{L\}.* at x"),
        (of(x={"type": "string", "minLength": 10**6}), "more than 20000"),
        (of(x={"$ref": "#/nowhere"}), "nowhere"),
        (of(x={"type": "wrong"}), "x"),
        (of(x={"enum": [object()]}), "no JSON"),
    ],
)
def test_what_is_refused(schema: Any, told: str) -> None:
    with pytest.raises(GrammarError, match=told):
        grammar(schema)


def node(width: int) -> dict[str, Any]:
    own = {f"p{i}": {"$ref": "#/$defs/N"} for i in range(width)}
    inner = {"type": "object", "properties": {"v": INTEGER, **own}}
    return {"$defs": {"N": inner}, "type": "object", "properties": {"root": {"$ref": "#/$defs/N"}}}


def levels(width: int) -> dict[str, Any]:
    defs: dict[str, Any] = {
        f"L{k}": {
            "type": "object",
            "properties": {f"p{i}": {"$ref": f"#/$defs/L{k + 1}"} for i in range(width)},
            "required": ["p0"],
        }
        for k in range(5)
    }
    return {"$ref": "#/$defs/L0", "$defs": {**defs, "L5": INTEGER}}


@pytest.mark.parametrize("schema", [node(8), node(30), levels(15)])
def test_wide_schemas_take_no_time(schema: Any) -> None:
    start = time.process_time()
    made = grammar(schema)
    Tokens.of(random_model(False)).compiler.compile_grammar(made.ebnf)
    assert time.process_time() - start < 2


def test_less_is_held_where_there_is_less_room() -> None:
    schema = of(a={"type": "string", "maxLength": 255}, b=INTEGER)
    all_of_it, some = grammar(schema), grammar(schema, room=100)
    assert some.weight <= 100 < all_of_it.weight
    assert set(json.loads(walk(schema, 1, room=100))) == {"a", "b"}


def test_the_check_tells_the_place() -> None:
    checked = whole(of(a={"type": "array", "items": SMALL, "uniqueItems": True}))
    assert checked.problem({"a": [1, 2]}) is None
    assert "['a']" in str(checked.problem({"a": [1, 1]}))
    assert whole(of(a=SMALL)) is whole(of(a=SMALL))


@pytest.mark.parametrize("given", [r"^(a)\1$", r"\p{L}", "^[^]]$", "(?i)a", "^(?:(?!ab)[a-c])+$"])
def test_patterns_that_are_not_held(given: str) -> None:
    with pytest.raises(LanguageError):
        pattern(given)


def test_languages_too_large_and_empty() -> None:
    with pytest.raises(LanguageError, match="states"):
        automaton(pattern("^[a-z]{9}$"), 5)
    assert automaton(pattern("^a(?=b)c$")).states == 0
    assert pattern("^a$") is pattern("^a$")
    assert isinstance(pattern("a"), Language)
