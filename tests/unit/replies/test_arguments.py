from __future__ import annotations

from typing import Any

import pytest

from t2agent.replies.schemas import ArgumentSchemas, is_free, options

ROOT = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["string", "number"]},
        "ref": {"$ref": "#/$defs/Point"},
        "loop": {"$ref": "#/properties/loop"},
        "lost": {"$ref": "#/nowhere"},
        "list": {"type": "array"},
        "mixed": {"enum": ["a", 1]},
        "flag": {"type": "boolean"},
        "any": {},
        "odd": True,
    },
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
}
SCHEMAS = ArgumentSchemas([{"type": "function", "function": {"name": "f", "parameters": ROOT}}])


@pytest.mark.parametrize(
    ("argument", "text", "value"),
    [
        ("text", "12", "12"),
        ("text", '"a"', '"a"'),
        ("count", "12", 12),
        ("count", "twelve", "twelve"),
        ("maybe", "null", None),
        ("either", "1.5", 1.5),
        ("either", "true", "true"),
        ("ref", '{"x": 1}', {"x": 1}),
        ("list", "[1, 2]", [1, 2]),
        ("mixed", "1", 1),
        ("mixed", "a", "a"),
        ("flag", "true", True),
        ("flag", "1", 1),
        ("unknown", "1", "1"),
        ("loop", "1", "1"),
        ("lost", "x", "x"),
        ("odd", "x", "x"),
    ],
)
def test_what_a_text_stands_for(argument: str, text: str, value: Any) -> None:
    found = SCHEMAS.read("f", argument, text)
    assert found == value
    assert type(found) is type(value)


def test_an_unknown_tool() -> None:
    assert SCHEMAS.read("g", "text", "1") == "1"


def test_what_any_string_will_do_for() -> None:
    assert is_free({"type": "string", "description": "x"})
    assert not is_free({"type": "string", "pattern": "a+"})
    assert not is_free({"enum": ["a"]})
    assert options({"$ref": "#/a"}, {"a": {"anyOf": [{"type": "null"}, {"const": 1}]}}) == [
        {"type": "null"},
        {"const": 1},
    ]
