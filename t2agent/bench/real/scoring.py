"""When a reply to a row of real data is right: one function a figure, of plain values.

Calls of BFCL are judged in `t2agent.bench.real.bfcl`; numbers, letters and programs as training
judges them (`t2agent.tasks`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from t2agent.replies.checking import whole
from t2agent.tasks.rewards.texts import spaced

Call = Mapping[str, Any]
"""{"name": ..., "arguments": {...}}."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"\b[0-9]{4}-(?P<number>[0-9]{2})-(?P<day>[0-9]{2})\b"),
    re.compile(rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}\b"),
    re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?=\W|$)"),
)
_TIMES = (
    re.compile(
        r"(?<![\w:.])(?P<hour>1[0-2]|0?[1-9])(?::(?P<minute>[0-5][0-9]))?\s*"
        r"(?P<half>[ap])\.?\s?m(?!\w)"
    ),
    re.compile(r"(?<![\w:.])(?P<hour>2[0-3]|[01]?[0-9]):(?P<minute>[0-5][0-9])(?![\w:])"),
)
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_WORD = re.compile(r"[0-9]+\.[0-9]+|\w+")


def right_tools(calls: Sequence[Call], wanted: Sequence[Call]) -> bool:
    """Whether the wanted tools are called, each as often as wanted, in any order, and no other."""
    return Counter(call["name"] for call in calls) == Counter(call["name"] for call in wanted)


def right_calls(calls: Sequence[Call], wanted: Sequence[Call]) -> bool:
    """Whether calls are the wanted ones, names and arguments.

    The order of calls and of arguments does not count, nor how a number is written (5, 5.0, "5"),
    white space around a string, and arguments that are null.
    """
    return Counter(map(_comparable, calls)) == Counter(map(_comparable, wanted))


def said(values: Sequence[str], reply: str) -> float:
    """The share of the values that stand in a reply, as whole words in their order.

    Case, punctuation, thousands separators, a currency's sign and zeros at a decimal's end do not
    count, nor in which form a time (7 pm, 7:00 p.m., 19:00) or a day (March 7th, 7 March,
    2019-03-07) is told.
    """
    text = f" {_plain(reply)} "
    return sum(f" {_plain(value)} " in text for value in values) / len(values)


def is_label(reply: str, label: str) -> bool:
    """Whether a reply is the label and nothing else, up to case, white space, quotes and a final
    full stop."""
    return _bare(reply) == _bare(label)


def found_fields(
    reply: str, schema: Mapping[str, Any]
) -> tuple[Mapping[str, str | Sequence[str]] | None, bool]:
    """The JSON object that a reply is, None where it is none; and whether it fits its schema."""
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return None, False
    if not isinstance(found, dict):
        return None, False
    return found, whole(schema).problem(found) is None


def matched_fields(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> tuple[int, int]:
    """How many values of fields are right, and twice that plus those that are in one of both only:
    (right, found + wanted). The F1 of many rows is 2 * sum of the first / sum of the second.

    A list counts as the set of its strings, each by itself. Case and white space do not count, and
    neither do empty strings and null, which say that there is nothing.
    """
    ours, theirs = set(_values(found or {})), set(_values(wanted))
    return len(ours & theirs), len(ours) + len(theirs)


def _comparable(call: Call) -> str:
    arguments = {key: value for key, value in call["arguments"].items() if value is not None}
    return json.dumps([call["name"], _even(arguments)], sort_keys=True)


def _even(value: Any) -> Any:
    """A value with its numbers in one form, by themselves and as strings."""
    if isinstance(value, Mapping):
        return {key: _even(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_even(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    text = str(value).strip()
    return ["number", _digits(text)] if _NUMBER.fullmatch(text) else text


def _digits(number: str) -> str:
    found = Decimal(number).normalize()
    return format(found + 0, "f")  # + 0: there is one zero


def _plain(text: str) -> str:
    """Words with one space between them; times, days and numbers in one form."""
    text = _THOUSANDS.sub("", spaced(text).casefold())
    for pattern in _DATES:
        text = pattern.sub(_date, text)
    for pattern in _TIMES:
        text = pattern.sub(_time, text)
    words = _WORD.findall(text)
    return " ".join(_digits(word) if _NUMBER.fullmatch(word) else word for word in words)


def _date(match: re.Match[str]) -> str:
    known = match.groupdict()
    month = known.get("number") or f"{_MONTHS.index(known['month'][:3]) + 1:02}"
    return f" day_{month}_{int(known['day']):02} "


def _time(match: re.Match[str]) -> str:
    known = match.groupdict()
    hour = int(known["hour"])
    if "half" in known:
        hour = hour % 12 + 12 * (known["half"] == "p")
    return f" time_{hour:02}_{known['minute'] or '00'} "


def _bare(text: str) -> str:
    text = spaced(text).casefold()
    for _ in range(2):  # "joy." and "joy".
        text = text.strip(_QUOTES).strip().removesuffix(".").strip()
    return text


def _values(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        several: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
        for one in several:
            if one is not None and (text := spaced(str(one)).casefold()):
                yield name, text
