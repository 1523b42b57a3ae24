"""Expressions of a grammar, their shortest texts, and how they are written as xgrammar's EBNF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2agent.replies import languages as regular

Expr = tuple[Any, ...]
"""("text", str), ("set", ranges), ("seq", exprs), ("alt", exprs), ("rule", name) or
("times", expr, low, high)."""

LONGEST = 20_000
"""Characters that a text which must be written may have."""
_REPEATED = 128  # states that xgrammar spends on a repetition at most
_HEX = regular.ranges([(48, 57), (65, 70), (97, 102)])
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
SPACE: Expr = ("times", ("set", regular.ranges([(9, 10), (13, 13), (32, 32)])), 0, 1)
"""White space as JSON may have it; unbounded, weak models would run out of tokens in it."""
PLAIN = regular.without(regular.ranges([(32, 0x10FFFF)]), regular.ranges([(34, 34), (92, 92)]))
"""The characters that JSON writes as they are."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar, and what closing a text of it needs.

    Attributes:
        ebnf: the rules as text; the first is root.
        tails: what may end its strings and numbers, from any place in them, shortest first.
        part: about the longest text that a single step makes necessary.
        least: a shortest text.
        weight: about the states that a compiler makes masks for.
        exact: the rules with the lengths of long strings, where ``ebnf`` leaves them free; "" where
            it holds all.
    """

    ebnf: str
    tails: tuple[str, ...]
    part: str
    least: str
    weight: float
    exact: str = ""


def literal(value: Any) -> Expr:
    """A value as JSON."""
    return ("text", json.dumps(value, ensure_ascii=False))


def escaped(text: str) -> str:
    """A text as JSON has it within quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def characters(given: regular.Ranges, quoted: bool, *, free: bool = False) -> list[Expr]:
    """The ways to write one of these characters, as it is or within quotes of JSON.

    free: where any may stand, it may be written by its number, too.
    """
    if not quoted:
        return [("set", given)] if given else []
    plain = regular.within(given, PLAIN)
    ways: list[Expr] = [("set", plain)] if plain else []
    if given != regular.ANY[1]:
        for low, high in regular.without(given, PLAIN):
            for code in range(low, high + 1):
                short = _SHORT.get(code)
                ways.append(("text", f"\\{short}" if short else f"\\u{code:04x}"))
        return ways
    short_ones = regular.ranges((ord(one), ord(one)) for one in '"\\/bfnrt')
    ways.append(("seq", [("text", "\\"), ("set", short_ones)]))
    if free:
        d: Expr = ("set", regular.ranges([(68, 68), (100, 100)]))
        first: Expr = ("set", regular.without(_HEX, d[1]))
        low_half: Expr = ("set", regular.ranges([(48, 55)]))
        high_half: Expr = ("set", regular.ranges([(56, 57), (65, 66), (97, 98)]))
        second: Expr = ("set", regular.ranges([(67, 70), (99, 102)]))
        u, two = ("text", "\\u"), [("set", _HEX)] * 2
        ways += [
            ("seq", [u, first, ("set", _HEX), *two]),
            ("seq", [u, d, low_half, *two]),
            ("seq", [u, d, high_half, *two, u, d, second, *two]),
        ]
    return ways


def any_number(whole_only: bool) -> Expr:
    """Any number of a size that Python reads."""
    digit: Expr = ("set", ((48, 57),))
    start: Expr = ("alt", [("text", "0"), ("seq", [("set", ((49, 57),)), ("times", digit, 0, 17)])])
    sign: Expr = ("times", ("text", "-"), 0, 1)
    if whole_only:
        return ("seq", [sign, start])
    fraction: Expr = ("seq", [("text", "."), ("times", digit, 1, 18)])
    exponent: Expr = ("seq", [
        ("set", ((69, 69), (101, 101))), ("times", ("set", ((43, 43), (45, 45))), 0, 1),
        ("times", digit, 1, 2),
    ])  # fmt: skip
    return ("seq", [sign, start, ("times", fraction, 0, 1), ("times", exponent, 0, 1)])


def shortest(rules: Mapping[str, Expr]) -> dict[str, str | None]:
    """A shortest text of each rule; None for rules that no text ever fits."""
    found: dict[str, str | None] = dict.fromkeys(rules)
    users: dict[str, list[str]] = {}
    for name, expr in rules.items():
        for one in set(names(expr)):
            users.setdefault(one, []).append(name)
    waiting = list(rules)
    while waiting:
        again: dict[str, None] = {}
        for name in waiting:
            text = least(rules[name], found)
            known = found[name]
            if text is not None and (known is None or len(text) < len(known)):
                found[name] = text
                again.update(dict.fromkeys(users.get(name, ())))
        waiting = list(again)
    return found


def least(expr: Expr, found: Mapping[str, str | None]) -> str | None:
    """A shortest text of an expression; None where no text fits."""
    kind, given = expr[0], expr[1]
    if kind == "text":
        return str(given)
    if kind == "set":
        return regular.plain(given) if given else None
    if kind == "rule":
        return found[given]
    if kind == "alt":
        ways = [one for one in (least(each, found) for each in given) if one is not None]
        return min(ways, key=len, default=None)
    if kind == "times":
        if expr[2] == 0:
            return ""
        inner = least(given, found)
        return None if inner is None else inner * min(expr[2], 4 * LONGEST)
    parts = []
    for one in given:
        part = least(one, found)
        if part is None:
            return None
        parts.append(part)
    return "".join(parts)


def names(expr: Expr, sizes: Mapping[str, str | None] | None = None) -> list[str]:
    """The rules that an expression needs; with ``sizes``, those of ways that some text fits."""
    kind, given = expr[0], expr[1]
    if sizes is not None and least(expr, sizes) is None:
        return []
    if kind == "rule":
        return [given]
    if kind in ("seq", "alt"):
        return [name for one in given for name in names(one, sizes)]
    return names(given, sizes) if kind == "times" else []


def pruned(expr: Expr, sizes: Mapping[str, str | None]) -> Expr:
    """Without the ways that no text ever fits."""
    kind, given = expr[0], expr[1]
    if kind == "alt":
        return ("alt", [pruned(one, sizes) for one in given if least(one, sizes) is not None])
    if kind == "seq":
        return ("seq", [pruned(one, sizes) for one in given])
    if kind == "times" and least(given, sizes) is None:
        return ("text", "")
    return expr


def written(expr: Expr) -> str:
    """An expression as text."""
    kind, given = expr[0], expr[1]
    if kind == "text":
        return '"' + "".join(_character(one, '"') for one in given) + '"'
    if kind == "set":
        pairs = [
            _character(chr(low), "]-^") + (f"-{_character(chr(high), ']-^')}" if high > low else "")
            for low, high in given
        ]
        return f"[{''.join(pairs)}]"
    if kind == "rule":
        return str(given)
    if kind == "times":
        low, high = expr[2], expr[3]
        sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((low, high))
        most = "" if high is None else high
        return f"({written(given)})" + (sign or f"{{{low},{most}}}")
    if kind == "alt":
        return "(" + " | ".join(map(written, given)) + ")"
    parts = [written(one) for one in given if one != ("text", "")]  # a sequence needs no marks
    return " ".join(parts) if parts else '""'


def _character(one: str, marks: str) -> str:
    code = ord(one)
    if (one.isascii() and one.isalnum()) or (
        one in " _,.:;!#$%&'()*+/<=>?@`{|}~" and one not in marks
    ):
        return one
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def weight(expr: Expr) -> float:
    """About the states of a rule for which a compiler makes masks.

    A repetition of choices makes none, but has masks that take long at each step.
    """
    kind, given = expr[0], expr[1]
    if kind == "times" and given[0] == "alt" and expr[3] != 1:
        return 500.0
    if kind == "set":
        return 1.0 if sum(high - low for low, high in given) > 30 else 0.1
    if kind == "text":
        return 0.005 * len(given)
    if kind in ("seq", "alt"):
        return float(sum(map(weight, given)))
    if kind == "times":
        return weight(given) * float(min(max(expr[2], expr[3] or 1), _REPEATED))
    return 0.02
