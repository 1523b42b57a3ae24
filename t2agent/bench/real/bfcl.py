"""When calls are right by the Berkeley Function Calling Leaderboard's own rule ("AST", Python).

Source: Patil et al., Berkeley Function Calling Leaderboard; its ``ast_checker.py`` as of 2025,
whose verdicts are given here, peculiarities included: an integer is taken for a number, but not
within an array of numbers; a call that is sought is the first that fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Call = Mapping[str, Any]
"""{"name": ..., "arguments": {...}}."""

_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
    "any": str,
}
_LEFT_OUT = re.compile(r"[ ,./\-_*^]")


def calls_fit(calls: Sequence[Call], row: Mapping[str, Any]) -> bool:
    """Whether calls are right for a row of BFCL.

    Args:
        calls: those of a reply.
        row: its ``category``; where calls are wanted, ``ground_truth``, a list of {name: {argument:
            [values that it may have; "": it may be left out]}}; and ``tools``, OpenAI's function
            tools. "irrelevance" wants no call, "relevance" any, "parallel" those of the truth in
            any order, and each other category the one of the truth.
    """
    category = str(row["category"])
    if "irrelevance" in category:
        return not calls
    if "relevance" in category:
        return bool(calls)
    wanted = row["ground_truth"]
    if len(calls) != len(wanted):
        return False
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
    left = list(calls)
    for answer in wanted:
        fitting = next((call for call in left if _fits(call, answer, tools)), None)
        if fitting is None:
            return False
        left = [call for call in left if call is not fitting]
    return True


def _fits(call: Call, answer: Mapping[str, Any], tools: Mapping[str, Any]) -> bool:
    [(name, possible)] = answer.items()
    if call["name"] != name:
        return False
    schema, given = tools[name], call["arguments"]
    known = schema.get("properties", {})
    return (
        all(one in given for one in schema.get("required", ()))
        and all(
            one in known and one in possible and _value_fits(value, possible[one], known[one])
            for one, value in given.items()
        )
        and all(one in given or "" in values for one, values in possible.items())
    )


def _value_fits(value: Any, possible: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    kind = _type(schema)
    inner = _type(schema.get("items", {})) if kind is list else None
    if kind is float and type(value) is int:
        value = float(value)
    told = next((type(one) for one in possible if one != ""), None)
    typed = type(value) is kind
    if not typed:
        # Of another type than the schema says, but of the one that is listed: a variable's name.
        return type(value) is told and value in possible
    if inner is not None and not any(_items_typed(value, one, inner) for one in possible):
        return False
    if told is not None and told is not kind:
        return value in possible
    if kind is dict:
        return any(_dict_fits(value, one) for one in possible if one != "")
    if inner is dict:
        return any(_dicts_fit(value, one) for one in possible)
    if kind is str:
        return _standard(value) in [_standard(one) for one in possible if isinstance(one, str)]
    if kind is list:
        # "" is a list without items to BFCL.
        lists = [list(one) for one in possible if isinstance(one, list | str)]
        return _all_standard(value) in map(_all_standard, lists)
    return value in possible


def _type(schema: Mapping[str, Any]) -> type:
    told = schema.get("type")
    return _TYPES.get(told, str) if isinstance(told, str) else str


def _items_typed(value: list[Any], possible: Any, kind: type) -> bool:
    if not isinstance(possible, list):
        return True
    told = next((type(one) for one in possible if one != ""), None)
    return all(type(item) in (kind, told) for item in value)


def _dicts_fit(value: list[Any], possible: Sequence[Any]) -> bool:
    pairs = list(zip(value, possible, strict=False))
    return len(value) == len(possible) and all(_dict_fits(one, other) for one, other in pairs)


def _dict_fits(value: Mapping[str, Any], possible: Mapping[str, Any]) -> bool:
    return all(
        key in possible and _loose(item) in [_loose(one) for one in possible[key]]
        for key, item in value.items()
    ) and all(key in value or "" in values for key, values in possible.items())


def _all_standard(items: Sequence[Any]) -> list[Any]:
    return [_loose(item) for item in items]


def _loose(value: Any) -> Any:
    return _standard(value) if isinstance(value, str) else value


def _standard(text: str) -> str:
    return _LEFT_OUT.sub("", text).lower().replace("'", '"')
