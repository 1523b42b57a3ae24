"""BFCL's rule. In 32,000 made-up replies to its own rows it told what ``ast_checker.py`` tells."""

from __future__ import annotations

from typing import Any

import pytest

from t2agent.bench.real.bfcl import calls_fit

PROPERTIES = {
    "city": {"type": "string"},
    "degrees": {"type": "number"},
    "days": {"type": "integer"},
    "exact": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "range": {"type": "array", "items": {"type": "number"}},
    "where": {"type": "object"},
    "stops": {"type": "array", "items": {"type": "object"}},
}
POSSIBLE: dict[str, list[Any]] = {
    "city": ["New York, NY", "NYC"],
    "degrees": [5.0, ""],
    "days": [3, ""],
    "exact": [True, ""],
    "tags": [["A b", "c"], ""],
    "range": [[1.0, 2.5], ""],
    "where": [{"street": ["Main St.", ""], "number": [1]}, ""],
    "stops": [[{"at": ["X"]}, {"at": ["Y", "Z"]}], ""],
}


def row(category: str, *truth: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": PROPERTIES, "required": ["city"]}
    function = {"name": "weather.get", "parameters": parameters}
    other = {"function": {"name": "other", "parameters": {"properties": {}, "required": []}}}
    return {"category": category, "tools": [{"function": function}, other], "ground_truth": truth}


def call(**arguments: Any) -> dict[str, Any]:
    return {"name": "weather.get", "arguments": arguments}


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"city": "nyc"}, True),
        ({"city": "new york NY"}, True),  # case, spaces and ,./-_*^ do not count
        ({"city": "New York"}, False),
        ({}, False),  # required
        ({"city": "NYC", "degrees": 5}, True),  # an integer is a number
        ({"city": "NYC", "degrees": "5.0"}, False),
        ({"city": "NYC", "days": 3.0}, False),  # but no number an integer
        ({"city": "NYC", "days": 4}, False),
        ({"city": "NYC", "exact": 1}, False),
        ({"city": "NYC", "exact": True}, True),
        ({"city": "NYC", "colour": "red"}, False),  # not known
        ({"city": "NYC", "tags": ["a-b", "C"]}, True),
        ({"city": "NYC", "tags": ["c", "a b"]}, False),  # in order
        ({"city": "NYC", "tags": []}, True),  # to BFCL, "" is this, too
        ({"city": "NYC", "range": [1.0, 2.5]}, True),
        ({"city": "NYC", "where": {"number": 1}}, True),
        ({"city": "NYC", "where": {"number": 1, "street": "main st"}}, True),
        ({"city": "NYC", "where": {"street": "Main St."}}, False),
        ({"city": "NYC", "where": {"number": 1, "door": 2}}, False),
        ({"city": "NYC", "stops": [{"at": "x"}, {"at": "z"}]}, True),
        ({"city": "NYC", "stops": [{"at": "x"}]}, False),
    ],
)
def test_values(arguments: dict[str, Any], right: bool) -> None:
    assert calls_fit([call(**arguments)], row("multiple", {"weather.get": POSSIBLE})) is right


def test_what_may_not_be_left_out_is_missed_though_not_required() -> None:
    truth = {"weather.get": {"city": ["NYC"], "days": [3]}}
    assert not calls_fit([call(city="NYC")], row("simple_python", truth))
    assert calls_fit([call(city="NYC", days=3)], row("simple_python", truth))


def test_types_within_an_array_are_exact_unless_it_may_be_left_out() -> None:
    given = [call(range=[1, 2.5], city="a")]
    truth = {"city": ["a"], "range": [[1.0, 2.5]]}
    assert not calls_fit(given, row("simple_python", {"weather.get": truth}))
    truth = {"city": ["a"], "range": [[1.0, 2.5], ""]}
    assert calls_fit(given, row("simple_python", {"weather.get": truth}))


def test_a_value_of_another_type_than_the_schemas_is_right_where_it_is_listed() -> None:
    truth = {"weather.get": {"city": [True]}}
    assert calls_fit([call(city=True)], row("simple_python", truth))
    assert not calls_fit([call(city="True")], row("simple_python", truth))


def test_names_and_numbers_of_calls() -> None:
    one, two = {"weather.get": {"city": ["A"]}}, {"weather.get": {"city": ["B"]}}
    parallel = row("live_parallel", one, two)
    assert calls_fit([call(city="b"), call(city="a")], parallel)
    assert not calls_fit([call(city="a"), call(city="a")], parallel)
    assert not calls_fit([call(city="a")], parallel)
    assert not calls_fit([{"name": "other", "arguments": {}}], row("simple_python", one))
    assert not calls_fit([], row("simple_python", one))


def test_relevance() -> None:
    nothing = {"category": "irrelevance", "tools": [], "ground_truth": None}
    assert calls_fit([], nothing)
    assert not calls_fit([call(city="a")], nothing)
    assert calls_fit([call(city="a")], {**nothing, "category": "live_relevance"})
    assert not calls_fit([], {**nothing, "category": "live_relevance"})
