"""Rewards of what a reply gives in fields: JSON and calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from t2agent.tasks.rewards.named import sign
from t2agent.tasks.rewards.texts import folded, named_labels, spaced
from t2agent.tasks.task import Example

Same = Callable[[Any, Any], bool]

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
# Of the way from -1 to 1: what calls are worth that name no right tool; all that is in a reply
# which writes its calls otherwise than the model does; and the right tools' names among words.
_PARSES, _OTHER_FORM, _MENTIONED = 0.1, 0.3, 0.05


def json_fields(reply: str, example: Example) -> float:
    """How many fields of the last JSON object or array in the reply are the answer's ("json").

    -1 for none, or no JSON; +1 for all; between them, by the share that is right of the fields
    that are in either, so that fields nobody asked for cost. Fields within fields count one by
    one, and items of arrays in their order. Numbers are equal by value; true is not 1.
    """
    found, wanted = last_json(reply), last_json(example.answer)
    if found is None or wanted is None:
        return -1.0
    right, either = _overlap(found, wanted, _equal)
    return 2 * right / either - 1


def calls(reply: str, example: Example) -> float:
    """How right the calls of tools are in a reply, as `t2agent.models.calls.readable` has
    it: a JSON list of {"name", "arguments"} where it calls, else its words.

    Where calls are wanted: +1 for all of them and no others. A call is right by the share of its
    name (without which nothing counts) and its arguments, fields within these one by one; calls
    that are missing or too many count as wrong ones. The order of calls and arguments does not
    count; nor do case and white space of strings, how a number is written (5, 5.0, "5"), whether
    true and false are strings, and arguments that are null. Below what these earn, so that early
    training has a signal: calls in another form than the model's (-1 to -0.4), and words that name
    just the right tools (-0.9). Calls of wrong tools earn -0.8.

    Where none is wanted: +1 for words, -1 for calls in any form and for nothing.
    """
    read = _read(reply)
    written = _calls_in(reply) if read is None else read
    if not example.calls:
        return sign(not written and reply.strip())
    if written:
        share = _PARSES + (1 - _PARSES) * _matched(written, example.calls)
        return 2 * share * (_OTHER_FORM if read is None else 1) - 1
    tools = {str(tool["function"]["name"]) for tool in example.tools}
    wanted = {str(call["name"]) for call in example.calls}
    told = named_labels(sorted(tools | wanted), reply)
    return 2 * _MENTIONED * (told == set(map(folded, wanted))) - 1


def makes_calls(reply: str) -> bool:
    """Whether a reply, as `calls` takes it, calls a tool."""
    return _read(reply) is not None


def last_json(text: str) -> Any:
    """The last JSON object or array in a text that is not within another; None without one."""
    found = None
    for value in _values(text):
        found = value
    return found


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and arrays in a text that are not within another."""
    at = 0
    while start := re.compile(r"[{[]").search(text, at):
        try:
            found, at = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
        else:
            yield found


def _overlap(found: Any, wanted: Any, same: Same) -> tuple[int, int]:
    """How many values are right, and how many there are in either; a field that both have counts
    once. Empty objects and arrays are values."""
    if isinstance(found, dict) and isinstance(wanted, dict) and (found or wanted):
        pairs = [_overlap(found[name], wanted[name], same) for name in found.keys() & wanted]
        alone = [_size(found[name]) for name in found.keys() - wanted]
        alone += [_size(wanted[name]) for name in wanted.keys() - found]
        return sum(right for right, _ in pairs), sum(either for _, either in pairs) + sum(alone)
    if isinstance(found, list) and isinstance(wanted, list) and (found or wanted):
        return _aligned(found, wanted, same)
    if isinstance(found, dict | list) or isinstance(wanted, dict | list):
        return int(found == wanted), max(_size(found), _size(wanted))
    return int(same(found, wanted)), 1


def _aligned(found: list[Any], wanted: list[Any], same: Same) -> tuple[int, int]:
    """`_overlap` of arrays whose items are paired in order, so that the most is right."""
    above = [(0, 0)]  # right, and the count in either below zero: the larger is the better
    for item in wanted:
        above.append((0, above[-1][1] - _size(item)))
    for one in found:
        row = [(0, above[0][1] - _size(one))]
        for place, other in enumerate(wanted):
            right, either = _overlap(one, other, same)
            paired = (above[place][0] + right, above[place][1] - either)
            dropped = (above[place + 1][0], above[place + 1][1] - _size(one))
            missing = (row[place][0], row[place][1] - _size(other))
            row.append(max(paired, dropped, missing))
        above = row
    return above[-1][0], -above[-1][1]


def _size(value: Any) -> int:
    """How many values there are in one."""
    count, rest = 0, [value]
    while rest:
        one = rest.pop()
        inner = list(one.values()) if isinstance(one, dict) else one
        if isinstance(inner, list) and inner:
            rest += inner
        else:
            count += 1
    return count


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON values: Python alone takes true for 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _alike(one: Any, other: Any) -> bool:
    """Equal as arguments: see `calls`."""
    return _equal(_plain(one), _plain(other))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        text = spaced(value).casefold()
        if text in ("true", "false"):
            return text == "true"
        return Decimal(text) if _JSON_NUMBER.fullmatch(text) else text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value))
    return value


def _read(reply: str) -> list[Any] | None:
    """The calls of a reply, where it is nothing else."""
    if not reply.startswith("["):
        return None
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    good = isinstance(found, list) and found and all(map(_is_call, found))
    return found if good else None


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"name", "arguments"}


def _calls_in(reply: str) -> list[Any]:
    """What looks like calls in a text that has none in the model's form."""
    found = []
    for value in _values(reply):
        for one in value if isinstance(value, list) else [value]:
            call = one.get("function", one) if isinstance(one, dict) else None
            if isinstance(call, dict) and isinstance(call.get("name"), str):
                given = call.get("arguments", call.get("parameters"))
                if isinstance(given, str):
                    given = last_json(given)
                if isinstance(given, dict):
                    found.append({"name": call["name"], "arguments": given})
    return found


def _matched(found: Sequence[Any], wanted: Sequence[Mapping[str, Any]]) -> float:
    """How right calls are, from 0 to 1, each paired with the wanted one that it fits best."""
    shares = [[_share(one, other) for other in wanted] for one in found]
    if len(found) == len(wanted) == 1:
        return shares[0][0]
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(shares, maximize=True)
    best = sorted(shares[row][column] for row, column in zip(rows, columns, strict=True))
    return float(sum(best)) / max(len(found), len(wanted))


def _share(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    if found["name"] != wanted["name"]:
        return 0.0
    given = found["arguments"]
    known = _given(given) if isinstance(given, dict) else {}
    right, either = 0, 0
    if known or _given(wanted["arguments"]):
        right, either = _overlap(known, _given(wanted["arguments"]), _alike)
    # Arguments that cannot be read are one more thing that is wrong.
    return (1 + right) / (1 + either + (not isinstance(given, dict)))


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}
