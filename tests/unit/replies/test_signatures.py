"""Schemas as types: all that they say is said, and what no type can say stays JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from t2agent.replies.signatures import signature, type_of


def typed(**properties: Any) -> str:
    return type_of({"type": "object", "properties": properties, "required": list(properties)})


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"]}, "integer | null"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer | null"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "é"}, '"é"'),
        ({"type": "array", "items": {"type": "number"}}, "number[]"),
        ({"type": "array", "items": {"enum": ["a", "b | c"]}}, '("a" | "b | c")[]'),
        ({"type": "array"}, "any[]"),
        ({"type": "object"}, "object"),
        ({"additionalProperties": {"type": "null"}, "type": "object"}, "{[key: string]: null}"),
        ({"properties": {"a": {"type": "boolean"}}}, "{a?: boolean}"),
        ({"allOf": [{"type": "string"}]}, "string"),
        ({}, "any"),
        (True, "any"),
    ],
)  # fmt: skip
def test_types(schema: Any, shown: str) -> None:
    assert typed(x=schema) == f"{{x: {shown}}}"


def test_what_a_type_leaves_out_is_a_comment() -> None:
    shown = typed(
        age={"type": "integer", "minimum": 0, "default": 5, "description": "In\n  years."},
        home_town={"type": "string", "description": "home town"},
        days={"type": "array", "items": {"type": "string", "format": "date"}},
    )
    assert shown == (
        "{\n"
        "  age: integer // In years.; minimum: 0; default: 5\n"
        "  home_town: string\n"
        "  days: string[] // items: format: date\n"
        "}"
    )


def test_names_that_are_no_names_are_quoted() -> None:
    assert typed(**{"customer rating": {"type": "string"}}) == '{"customer rating": string}'


class Inner(BaseModel):
    kind: Literal["x", "y"] | None = None


class Outer(BaseModel):
    """All of it."""

    many: list[Inner]
    one: Inner = Field(description="The first.")


def test_models_of_pydantic_are_written_with_their_parts() -> None:
    inner = '{kind?: "x" | "y" | null}'
    assert type_of(Outer.model_json_schema()) == (
        f"// All of it.\n{{\n  many: {inner}[]\n  one: {inner} // The first.\n}}"
    )


class Tree(BaseModel):
    below: list[Tree]


@pytest.mark.parametrize(
    "schema",
    [
        Tree.model_json_schema(),
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"allOf": [{"minimum": 1}, {"maximum": 2}]}}},
        {"type": "object", "properties": {"a": False}},
        {"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    ],
)
def test_what_no_type_says_is_json(schema: dict[str, Any]) -> None:
    assert json.loads(type_of(schema)) == schema
    assert signature({"name": "f", "parameters": schema}) == f"f({json.dumps(schema)})"


def test_arguments_behind_a_reference_are_found() -> None:
    own = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {"$ref": "#/$defs/Own", "$defs": {"Own": own}}
    assert signature({"name": "f", "parameters": schema}) == "f(a?: string)"


def test_signatures() -> None:
    weather = {
        "name": "weather",
        "description": "Tells the\nweather.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string"},
                "unit": {"enum": ["C", "F"], "description": "of the temperature"},
            },
            "required": ["town"],
        },
    }
    assert signature(weather) == (
        "// Tells the weather.\n"
        'weather(\n  town: string\n  unit?: "C" | "F" // of the temperature\n)'
    )
    assert signature({"name": "now"}) == "now()"
