"""A JSON schema as a grammar of xgrammar's EBNF.

The schema is taken apart into kinds of one type each, in which everything that must hold at once
is merged: references and what stands beside them, allOf, anyOf, conditions. A small finite kind is
counted up, and the schema's own check keeps what fits. What a grammar cannot hold (uniqueness of
endless items, sums of choices) is left to that check.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from t2agent.errors import GrammarError
from t2agent.replies import languages as regular
from t2agent.replies import ranges
from t2agent.replies.checking import Whole, whole
from t2agent.replies.ebnf import (
    LONGEST,
    PLAIN,
    SPACE,
    Expr,
    Grammar,
    any_number,
    characters,
    escaped,
    literal,
    names,
    pruned,
    shortest,
    weight,
    written,
)
from t2agent.replies.kinds import Kind, Parts, is_of, together
from t2agent.replies.languages import TEXT, Automaton, Language, LanguageError

_FINITE = 256  # values of a kind that are counted up
_RULES = 20_000
_COUNTED = 6000  # rules of a grammar that is followed character by character
_MOST = 1024  # characters that are counted
_LONG = 16  # characters from which on a string's length may be left to such a grammar


def grammar(
    schema: Any, *, part: Any = None, plain: str | None = None, room: float = math.inf
) -> Grammar:
    """The grammar of JSON that fits a schema.

    part: the schema of one of its `members`, which is then meant.
    plain: strings are written as they are, up to this mark, which they may not hold; other values
        are JSON. None where all is JSON. room: the greatest weight; where more is needed, the
        lengths of long strings stand in ``exact`` alone. Where that is not enough, less is held:
        first long strings are free, then all strings, then what stands deep.

    What was made last is remembered, since each request asks for its schemas' anew.

    Raises GrammarError where nothing fits the schema, and as `whole`.
    """
    try:
        text = json.dumps([schema, part])
    except (TypeError, ValueError, RecursionError):  # `whole` says what is wrong with it
        return _made(schema, part, plain, room)
    return _remembered(text, plain, room)


@lru_cache(maxsize=64)
def _remembered(text: str, plain: str | None, room: float) -> Grammar:
    schema, part = json.loads(text)
    return _made(schema, part, plain, room)


def _made(schema: Any, part: Any, plain: str | None, room: float) -> Grammar:
    given = whole(schema)
    error: GrammarError | None = None
    for level in range(4):
        maker = _Maker(given, level, plain)
        try:
            made = maker.made(given.root if part is None else part)
        except _TooLargeError:
            continue
        except RecursionError:
            error = GrammarError("it is nested too deep; give a flatter schema")
            continue
        if made.weight > room and level == 0 and made.ebnf.count("\n") <= _COUNTED:
            loose = _Maker(given, level, plain, loose=True)
            less = loose.made(given.root if part is None else part)
            made = replace(made, ebnf=less.ebnf, weight=less.weight, exact=made.ebnf)
        if made.weight <= room or level == 3:
            return made
    raise error or GrammarError("it is too large for a grammar; give a smaller schema")


class _TooLargeError(Exception):
    """More rules than a compiler can take."""


class _Maker(Parts):
    """Makes the rules of a schema.

    level: 0 holds all; 1 leaves long patterns free; 2 all strings; 3 all within the first value.
    loose: whether lengths of long strings are left to another grammar.
    """

    def __init__(self, given: Whole, level: int, plain: str | None, *, loose: bool = False) -> None:
        super().__init__(given, level)
        self._plain, self._loose = plain, loose
        self._rules: dict[str, Expr] = {}
        self._known: dict[Any, str] = {}
        self._tails: set[str] = set()

    def made(self, schema: Any) -> Grammar:
        """The grammar of a schema."""
        root = self._root(schema)
        sizes = shortest({**self._rules, "root": root})
        if sizes["root"] is None:
            raise GrammarError(
                "nothing fits the schema: what it asks for contradicts itself, or never ends; "
                "give one that some JSON fits"
            )
        if len(sizes["root"]) > LONGEST:
            raise GrammarError(
                f"the shortest JSON that fits has more than {LONGEST} characters; ask for less"
            )
        rules = {"root": root, **self._rules}
        needed, waiting = {"root"}, ["root"]
        while waiting:
            for name in names(rules[waiting.pop()], sizes):
                if name not in needed:
                    needed.add(name)
                    waiting.append(name)
        lines = [
            f"{name} ::= {written(pruned(expr, sizes))}"
            for name, expr in rules.items()
            if name in needed
        ]
        part = max((sizes[name] or "" for name in needed), key=len)
        size = sum(weight(rules[name]) for name in needed)
        tails = sorted(self._tails, key=lambda one: (len(one), one))[:400]
        return Grammar("\n".join(lines), tuple(tails), part, sizes["root"], size)

    def _root(self, schema: Any) -> Expr:
        if self._plain is None:
            return self.value(schema)
        ways = []
        for kind in self.kinds(schema):
            if "string" in kind.types:
                ways.append(self._string(replace(kind, types=frozenset({"string"})), quoted=False))
            rest = kind.types - {"string"}
            if rest:
                ways.append(self._kind(replace(kind, types=rest), schema))
        return ("alt", ways)

    # Rules

    def _rule(self, key: Any, make: Any) -> Expr:
        name = self._known.get(key)
        if name is None:
            if len(self._known) > _RULES:
                raise _TooLargeError
            name = self._known[key] = f"r{len(self._known)}"
            self._rules[name] = ("alt", [])
            self._rules[name] = make()
        return ("rule", name)

    def value(self, schema: Any, depth: int = 0) -> Expr:
        """Any value of a schema."""
        if self._level == 3 and depth:
            schema = True
        return self._rule(_key(schema), lambda: self._value(schema))

    def _value(self, schema: Any) -> Expr:
        kinds = self.kinds(schema)
        if any(kind.checks for kind in kinds):
            counted = self.counted(kinds, _FINITE)
            if counted is not None:
                fits = self.whole.fitting(schema)
                return ("alt", [literal(one) for one in counted if fits(one)])
        return ("alt", [self._kind(kind, schema) for kind in kinds])

    # Kinds as rules

    def _kind(self, kind: Kind, schema: Any) -> Expr:
        if kind.values is not None:
            values = [one for one in kind.values if is_of(one, kind.types)]
            fits = self.whole.fitting(True if schema is None else schema)
            return ("alt", [literal(one) for one in values if fits(one)])
        ways: list[Expr] = []
        for name in sorted(kind.types):
            if name == "null":
                ways.append(("text", "null"))
            elif name == "boolean":
                ways += [("text", "true"), ("text", "false")]
            elif name == "string":
                ways.append(self._string(kind, quoted=True))
            elif name == "integer" and "number" not in kind.types:
                ways.append(self._number(kind, whole_only=True))
            elif name == "number":
                ways.append(self._number(kind, whole_only=False))
            elif name == "array":
                ways.append(self._array(kind))
            elif name == "object":
                ways.append(self._object(kind))
        return ("alt", ways)

    def _string(self, kind: Kind, *, quoted: bool) -> Expr:
        text = kind.text
        if not quoted and kind.values is not None:
            return ("alt", [("text", one) for one in kind.values if isinstance(one, str)])
        if not quoted and self._plain:
            first = regular.chars(regular.without(regular.ANY[1], ((ord(self._plain[0]),) * 2,)))
            if regular.counted(text) is not None:
                text = regular.both(text, regular.repeated(first, 0, None))
            else:
                mark = regular.sequence(TEXT, regular.literal(self._plain), TEXT)
                text = regular.both(text, regular.other(mark))
        return self._text(text, quoted=quoted)

    def _text(self, text: Language, *, quoted: bool) -> Expr:
        mark = '"' if quoted else ""
        inner = self._rule(("text", text, quoted), lambda: self._inner(text, quoted))
        return ("seq", [("text", mark), inner])

    def _inner(self, text: Language, quoted: bool) -> Expr:
        """A string from after its first mark on."""
        end: Expr = ("text", '"' * quoted)
        counted = regular.counted(text)
        if counted is not None:
            allowed, low, high = counted
            longest = _MOST if quoted else regular.MOST
            if self._level or (high or 0) > longest:
                high = None  # xgrammar's masks let through what its own long repetitions refuse
            size = max(low, high or 0)
            if self._loose and quoted and allowed == regular.ANY[1] and _LONG < size <= _MOST:
                return self._counting(allowed, 0, None, quoted, free=False)
            if size <= longest:
                return self._counting(allowed, low, high, quoted)
            plain = regular.within(allowed, PLAIN) if quoted else allowed
            return ("seq", [("times", ("set", plain), low, high), end])
        automaton = self.automaton(text)
        if automaton is not None:
            return ("seq", [self._states(automaton, quoted, text), end])
        structural = None if self._level else regular.structural(text)
        if structural is None:
            return self._counting(regular.ANY[1], 0, None, quoted)
        return ("seq", [self._built(structural, quoted), end])

    def _counting(
        self,
        allowed: regular.Ranges,
        low: int,
        high: int | None,
        quoted: bool,
        *,
        free: bool = True,
    ) -> Expr:
        """So many of these characters, and the mark that ends them: a rule for each number, since
        what crosses from a rule to another within a repetition would be tried token by token. The
        mark stands in the rules: else the end of each would be the end of all before it.
        free: where nothing is counted, characters may be written by their numbers, too."""
        most = low if high is None else high
        free = free and most == 0
        end: Expr = ("text", '"' * quoted)
        one = escaped(regular.plain(allowed)) if quoted else regular.plain(allowed)
        self._tails |= {one * size + '"' * quoted for size in range(1, min(low, 300) + 1)}

        def made(number: int) -> Expr:
            ways: list[Expr] = [end if most else ("text", "")] if number >= low else []
            if high is not None and number == high:
                return ("alt", ways)
            then = (allowed, low, high, quoted, free, min(number + 1, most))
            after: Expr = ("rule", self._known.setdefault(then, f"r{len(self._known)}"))
            each = characters(allowed, quoted, free=free)
            return ("alt", ways + [("seq", [way, after]) for way in each])

        for number in range(most + 1):
            key = (allowed, low, high, quoted, free, number)
            name = self._known.setdefault(key, f"r{len(self._known)}")
            if name not in self._rules:
                self._rules[name] = made(number)
        first: Expr = ("rule", self._known[allowed, low, high, quoted, free, 0])
        return first if most else ("seq", [first, end])

    def _built(self, term: Language, quoted: bool) -> Expr:
        kind = term[0]
        if kind == "chars":
            return ("alt", characters(term[1], quoted))
        if kind == "seq":
            return ("seq", [self._built(one, quoted) for one in term.parts[1:]])
        if kind == "or":
            return ("alt", [self._built(one, quoted) for one in term[1]])
        if kind == "repeat":
            inner = self._built(term[1], quoted)
            return ("times", inner, term[2], term[3])
        return ("text", "")

    def _states(self, automaton: Automaton, quoted: bool, key: Any) -> Expr:
        """A rule for each state of an automaton."""
        if not automaton.states:
            return ("alt", [])
        rests = {escaped(one) if quoted else one for one in automaton.rests}
        self._tails |= {one + '"' * quoted for one in rests if one}

        def made(number: int) -> Expr:
            ways: list[Expr] = [("text", "")] if number in automaton.ends else []
            for then, given in automaton.steps[number].items():
                waiting.append(then)
                ways += [("seq", [way, later(then)]) for way in characters(given, quoted)]
            return ("alt", ways)

        def later(number: int) -> Expr:
            name = ("state", key, quoted, number)
            if name not in self._known:
                self._known[name] = f"r{len(self._known)}"
            return ("rule", self._known[name])

        waiting: list[int] = []
        first = later(0)
        done: set[int] = set()
        waiting.append(0)
        while waiting:
            number = waiting.pop()
            if number not in done:
                done.add(number)
                self._rules[later(number)[1]] = made(number)
        if len(self._known) > _RULES:
            raise _TooLargeError
        return first

    # Numbers

    def _number(self, kind: Kind, *, whole_only: bool) -> Expr:
        low, high = ranges.limits(kind.bounds)
        if low is None and high is None and not kind.multiples:
            return self._rule(("number", whole_only), lambda: any_number(whole_only))
        if (low is not None and high is not None) and low > high:
            return ("alt", [])
        language = ranges.numbers(kind.bounds, kind.multiples, low, high, whole_only)
        if language is None:
            values = ranges.steps(
                kind.bounds, kind.multiples, "integer" if whole_only else "number", _FINITE
            )
            if values is None:
                values = [
                    one
                    for one in ranges.near_limits(kind.bounds)
                    if not whole_only or one == int(one)
                ]
            return ("alt", [literal(one) for one in values])
        try:
            automaton = regular.automaton(language, 2 * regular.MOST)
        except LanguageError:
            return self._rule(("number", whole_only), lambda: any_number(whole_only))
        return self._states(automaton, False, language)

    # Arrays and objects

    def _array(self, kind: Kind) -> Expr:
        low, high = int(kind.bounds.get("minItems", 0)), kind.bounds.get("maxItems")
        high = None if high is None else int(high)
        if high is not None and low > high:
            return ("alt", [])
        first = max((len(prefix) for prefix, _ in kind.arrays), default=0)
        if high is not None:
            first = min(first, high)
        comma: Expr = ("seq", [SPACE, ("text", ","), SPACE])
        rest = self.value(self.item(kind, None), 1)
        many = None if high is None else high - max(first, 1)
        if many is not None and many < 0:
            many = 0
        further: Expr = ("times", ("seq", [comma, rest]), max(low - max(first, 1), 0), many)
        further = further if many != 0 else ("text", "")
        if first == 0:
            body: Expr = ("seq", [rest, further]) if high != 0 else ("alt", [])
        else:
            body = further
            for place in reversed(range(first)):
                item = self.value(self.item(kind, place), 1)
                last = place + 1 >= low
                after: Expr = body if place == first - 1 else ("seq", [comma, body])
                if place < first - 1 and last:
                    after = ("alt", [("text", ""), after])
                body = ("seq", [item, after])
        ways: list[Expr] = [("seq", [("text", "["), SPACE, body, SPACE, ("text", "]")])]
        if low == 0:
            ways.append(("seq", [("text", "["), SPACE, ("text", "]")]))
        return ("alt", ways)

    def _object(self, kind: Kind) -> Expr:
        members = [one for one in self.members(kind) if one[1] is not False]
        missing = set(kind.required) - {key for key, _, _ in members}
        if missing:
            return ("alt", [])
        low = int(kind.bounds.get("minProperties", 0))
        high = kind.bounds.get("maxProperties")
        extra = self._extra(kind, [key for key, _, _ in self.members(kind)])
        counting = low > len(kind.required) or high is not None
        most = max(low, int(high) if high is not None else 0) if counting else 0
        if most > 24:
            most, low, high = 0, 0, None
        pairs: list[tuple[Expr, bool]] = [
            (("seq", [literal(key), SPACE, ("text", ":"), SPACE, self.value(one, 1)]), must)
            for key, one, must in members
        ]
        comma: Expr = ("seq", [SPACE, ("text", ","), SPACE])
        key = ("object", tuple(map(_key, (members, kind.bounds))), extra)

        def rest(place: int, some: bool, count: int) -> Expr:
            """What follows from a property on; some: whether anything stands before it."""
            return self._rule((key, place, some, count), lambda: ways(place, some, count))

        def ways(place: int, some: bool, count: int) -> Expr:
            lead: list[Expr] = [comma] if some else []
            full = high is not None and count >= int(high)
            more = min(count + 1, most) if most else 0
            if place == len(pairs):
                found: list[Expr] = [("text", "")] if count >= low or not most else []
                if extra is not None and not full:
                    found.append(("seq", [*lead, extra, rest(place, True, more)]))
                return ("alt", found)
            pair, must = pairs[place]
            found = [] if full else [("seq", [*lead, pair, rest(place + 1, True, more)])]
            if not must:
                found.append(rest(place + 1, some, count))
            return ("alt", found)

        body = rest(0, False, 0)
        return ("seq", [("text", "{"), SPACE, body, SPACE, ("text", "}")])

    def _extra(self, kind: Kind, declared: Sequence[str]) -> Expr | None:
        """A property that is not declared; None where there may be none."""
        given = [others for _, _, others in kind.objects if others is not None]
        patterns = {one for _, some, _ in kind.objects for one in some}
        own = any(own is not None for own, _, _ in kind.objects) or kind.required
        if False in given and not patterns:
            return None
        if not given and not patterns and own:
            return None  # what a schema does not name is not asked for
        names = regular.other(regular.either(*map(regular.literal, declared)))
        for one in kind.names:
            kinds = [each for each in self.kinds(one) if "string" in each.types]
            listed = [
                regular.either(*(regular.literal(v) for v in each.values if isinstance(v, str)))
                if each.values is not None
                else each.text
                for each in kinds
            ]
            names = regular.both(names, regular.either(*listed))
        ways: list[Expr] = []
        languages = {one: self._pattern(one, Kind()) for one in patterns}
        others = [*languages]
        for one in [*others, None]:
            if one is None and (False in given or (patterns and not given)):
                continue
            language = names
            for two in others:
                inside = languages[two]
                language = regular.both(language, inside if two == one else regular.other(inside))
            value = together(
                [
                    part
                    for _, some, rest in kind.objects
                    for part in (
                        [some[one]]
                        if one is not None and one in some
                        else []
                        if rest is None
                        else [rest]
                    )
                ]
            )
            if value is False:
                continue
            name = self._text(language, quoted=True)
            ways.append(("seq", [name, SPACE, ("text", ":"), SPACE, self.value(value, 1)]))
        if not ways:
            return None
        return self._rule(("extra", _key(ways)), lambda: ("alt", ways))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=False, default=repr)
