"""What makes a reply to a row of real data right."""

from __future__ import annotations

from typing import Any

import pytest

from t2agent.bench.real.forms import field_schema
from t2agent.bench.real.scoring import (
    found_fields,
    is_label,
    matched_fields,
    right_calls,
    right_tools,
    said,
)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_tools_are_right_by_name_and_number() -> None:
    wanted = [call("a"), call("b", x=1), call("a", y=2)]
    assert right_tools([call("b"), call("a"), call("a")], wanted)
    assert not right_tools([call("a"), call("b")], wanted)
    assert not right_tools([*wanted, call("c")], wanted)


@pytest.mark.parametrize(
    ("given", "wanted", "right"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, True),
        ({"a": 5.0}, {"a": 5}, True),
        ({"a": "5"}, {"a": 5}, True),
        ({"a": [1.50, {"c": "2"}]}, {"a": [1.5, {"c": 2}]}, True),
        ({"a": " x "}, {"a": "x"}, True),
        ({"a": "x", "b": None}, {"a": "x"}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": "x"}, {"a": "X"}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "007"}, {"a": "7"}, True),  # a number, in another form
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": "x"}, {"a": "x", "b": 1}, False),
        ({"a": "x", "b": 1}, {"a": "x"}, False),
    ],
)
def test_arguments(given: dict[str, Any], wanted: dict[str, Any], right: bool) -> None:
    assert right_calls([call("f", **given)], [call("f", **wanted)]) is right


def test_the_order_of_calls_does_not_count_and_each_counts_once() -> None:
    assert right_calls([call("f", a=1), call("g", a="2")], [call("g", a=2), call("f", a=1)])
    assert not right_calls([call("f", a=1), call("f", a=1)], [call("f", a=1), call("f", a=2)])
    assert not right_calls([call("f", a=1), call("f", a=1)], [call("f", a=1)])


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        ("7 pm", "It starts at 7:00 p.m. sharp."),
        ("7 pm", "It starts at 19:00."),
        ("7:40 am", "The bus at 7:40am costs $65"),
        ("12:30 pm", "at 12:30"),
        ("March 7th", "on 7 March, 2019"),
        ("march 7th", "On 2019-03-07 there is one."),
        ("March 2nd", "on the 2nd of March"),
        ("$2,600,000", "it is 2600000 dollars"),
        ("$2600000", "It costs $2,600,000."),
        ("4.2", "a rating of 4.20"),
        ("4.0", "4 stars"),
        ("46", "rated 46%"),
        ("975 sereno drive", "at 975 Sereno Drive."),
        ("18/8 Fine Men'S Salons - Palo Alto", "18/8 Fine Men's Salons, Palo Alto"),
        ("Tel Aviv on Fire", 'I found "Tel Aviv on  Fire".'),
    ],
)
def test_a_value_is_said_in_another_form(value: str, reply: str) -> None:
    assert said([value], reply) == 1.0


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        ("7 pm", "at 7 am"),
        ("7 pm", "at 7:30 pm"),
        ("7 pm", "7 rooms"),
        ("March 7th", "March 17th"),
        ("March 7th", "April 7th"),
        ("4", "4.2 stars"),
        ("4", "at 4:30"),
        ("46", "146"),
        ("65", "650"),
        ("The Van Buren", "Van Buren"),
    ],
)
def test_a_value_is_not_said(value: str, reply: str) -> None:
    assert said([value], reply) == 0.0


def test_the_share_of_values_that_are_said() -> None:
    assert said(["Hansard", "7:30 pm", "March 12th"], "Hansard is on 12 March.") == pytest.approx(
        2 / 3
    )


def test_a_label_is_the_whole_reply() -> None:
    for reply in ("joy", " Joy.\n", '"joy".', "'joy.'", "`joy`"):
        assert is_label(reply, "joy")
    for reply in ("joyful", "The label is joy", "joy, sadness", "", "joy!?"):
        assert not is_label(reply, "joy")
    assert is_label("Sci/Tech", "sci/tech")
    assert is_label("no emotion", "no  emotion")


def test_fields_are_counted_value_by_value() -> None:
    schema = field_schema({"name": False, "people": True})
    found, valid = found_fields('{"name": " Ann  LEE", "people": ["b", "x", "b"]}', schema)
    assert valid
    # name is right, b is right once, x is too much, c is missing.
    assert matched_fields(found, {"name": "ann lee", "people": ["b", "c"]}) == (2, 6)
    assert matched_fields({"name": "", "people": [], "age": None}, {"name": "ann"}) == (0, 1)


@pytest.mark.parametrize("reply", ["", "no JSON", '{"name": "a"', "[1]", "[" * 100_000])
def test_what_is_no_object_finds_nothing(reply: str) -> None:
    found, valid = found_fields(reply, field_schema({"name": False}))
    assert (found, valid) == (None, False)
    assert matched_fields(found, {"name": "a"}) == (0, 1)


def test_fields_outside_of_the_schema_are_seen() -> None:
    schema = field_schema({"name": False})
    assert found_fields('{"name": "a", "age": "3"}', schema)[1] is False
    assert found_fields('{"name": ["a"]}', schema)[1] is False
    assert found_fields("{}", schema) == ({}, True)
