"""Regular expressions as JSON schema has them, as languages: they may match anywhere in a text.

What JavaScript and Python read otherwise (\\w beyond ASCII, "." and line ends) is held to what both
allow.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from t2agent.replies.languages import (
    END,
    EVERY,
    LAST,
    TEXT,
    Language,
    LanguageError,
    Ranges,
    both,
    chars,
    either,
    of_text,
    other,
    ranges,
    repeated,
    sequence,
    without,
)

_DIGIT, _WORD = ranges([(48, 57)]), ranges([(48, 57), (65, 90), (95, 95), (97, 122)])
_SPACE = ranges([
    (9, 13), (28, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
    (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
])  # fmt: skip
_BEYOND = ranges([(128, LAST)])
_LESS = {"d": _DIGIT, "w": _WORD, "s": of_text(" \t\n\v\f\r\u00a0\u2003\u3000")}
_MORE = {"d": ranges([*_DIGIT, *_BEYOND]), "w": ranges([*_WORD, *_BEYOND]), "s": _SPACE}
_LINE = of_text("\n\r\u2028\u2029\u0085\v\f")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


@lru_cache(maxsize=512)
def pattern(text: str) -> Language:
    """The texts in which a regular expression is found.

    Raises LanguageError where it has what is not held: references back, named classes, options,
    or lookarounds within a repetition.
    """
    reader = _Reader(text)
    tree = reader.alternatives()
    if reader.at < len(text):
        raise LanguageError(f"{text!r} has a parenthesis too many")
    return _built(tree, TEXT, TEXT)


def _built(tree: tuple[Any, ...], before: Language, rest: Language) -> Language:
    """The whole texts: ``before``, then what the tree matches, then ``rest``."""
    kind = tree[0]
    if kind == "or":
        return either(*(_built(one, before, rest) for one in tree[1]))
    if kind == "seq":
        for place, one in enumerate(tree[1]):
            if _looks(one):
                left, right = ("seq", tree[1][:place]), ("seq", tree[1][place + 1 :])
                if one[0] in ("or", "seq"):
                    ways = one[1] if one[0] == "or" else [one]
                    spread = [
                        ("seq", [*left[1], *(way[1] if way[0] == "seq" else [way]), *right[1]])
                        for way in ways
                    ]
                    return _built(("or", spread), before, rest)
                past = sequence(before, *map(_term, left[1]))
                if one[0] == "behind":
                    seen = _seen(one, past)
                    return _built(right, seen, rest)
                if one[0] == "border":
                    return _border(one, past, right, rest)
                # What comes is read on its own, since it may look ahead once more.
                coming = _built(right, END, rest)
                inner = _built(one[1], END, TEXT if one[3] else END)
                ahead = inner if one[2] else other(inner)
                return sequence(past, both(coming, ahead))
        return sequence(before, *map(_term, tree[1]), rest)
    return _built(("seq", [tree]), before, rest)


def _seen(one: tuple[Any, ...], past: Language) -> Language:
    inner = _built(one[1], TEXT if one[3] else END, END)
    return both(past, inner if one[2] else other(inner))


def _border(
    one: tuple[Any, ...], past: Language, right: tuple[Any, ...], rest: Language
) -> Language:
    """A border of words, or a place that is none."""
    coming = _built(right, END, rest)
    word, gap = chars(_WORD), chars(without(ranges([(0, 127)]), _WORD))
    inside = both(past, sequence(TEXT, word)), both(coming, sequence(word, TEXT))
    outside = (
        both(past, either(END, sequence(TEXT, gap))),
        both(coming, either(END, sequence(gap, TEXT))),
    )
    if one[1]:
        return either(sequence(inside[0], outside[1]), sequence(outside[0], inside[1]))
    return either(sequence(*inside), sequence(*outside))


def _looks(tree: tuple[Any, ...]) -> bool:
    if tree[0] in ("or", "seq"):
        return any(map(_looks, tree[1]))
    return tree[0] in ("ahead", "behind", "border")


def _term(tree: Any) -> Language:
    kind = tree[0]
    if kind in ("or", "seq"):
        return (either if kind == "or" else sequence)(*map(_term, tree[1]))
    if kind == "repeat":
        if _looks(tree[1]) or (tree[1][0] == "repeat" and _looks(tree[1][1])):
            raise LanguageError("it looks around within a repetition")
        return repeated(_term(tree[1]), tree[2], tree[3])
    assert isinstance(tree, Language)
    return tree


class _Reader:
    """A regular expression as a tree."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def _take(self, *starts: str) -> str:
        for start in starts:
            if self.text.startswith(start, self.at):
                self.at += len(start)
                return start
        return ""

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise LanguageError(f"{self.text!r} breaks off")
        self.at += 1
        return self.text[self.at - 1]

    def alternatives(self) -> Any:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else ("or", ways)

    def _sequence(self) -> Any:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self._repeated(self._one()))
        return ("seq", parts)

    def _repeated(self, one: tuple[Any, ...]) -> Any:
        while True:
            counted = re.compile(r"\{(\d+)(,?)(\d*)\}").match(self.text, self.at)
            sign = self._take("*", "+", "?")
            if sign:
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            elif counted:
                self.at = counted.end()
                low = int(counted[1])
                high = low if not counted[2] else int(counted[3]) if counted[3] else None
            else:
                return one
            self._take("?")  # greed changes no language
            if self._take("+"):
                raise LanguageError("possessive repetitions are not held")
            if _looks(one) and one[0] in ("ahead", "behind", "border"):
                raise LanguageError("it looks around within a repetition")
            one = ("repeat", one, low, high)

    def _one(self) -> Any:
        if self._take("("):
            return self._group()
        if self._take("["):
            return chars(self._class())
        if self._take("^"):
            return ("behind", ("seq", []), True, False)
        if self._take("$"):
            return ("ahead", ("seq", []), True, False)
        if self._take("."):
            return chars(without(EVERY, _LINE))
        if self._take("\\"):
            if self._take("b"):
                return ("border", True)
            if self._take("B"):
                return ("border", False)
            if self._take("A"):
                return ("behind", ("seq", []), True, False)
            if self._take("Z", "z"):
                return ("ahead", ("seq", []), True, False)
            return chars(self._escape(within=False))
        return chars(of_text(self._next()))

    def _group(self) -> Any:
        look = self._take("?=", "?!", "?<=", "?<!", "?:")
        if not look and self._take("?"):
            named = re.compile(r"P?<\w+>").match(self.text, self.at)
            if named is None:
                raise LanguageError("its options of groups are not held")
            self.at = named.end()
        inner = self.alternatives()
        if not self._take(")"):
            raise LanguageError(f"{self.text!r} lacks a parenthesis")
        if look in ("", "?:"):
            return inner
        return ("behind" if "<" in look else "ahead", inner, "!" not in look, True)

    def _escape(self, *, within: bool, upper: bool = False) -> Ranges:
        """The characters of an escape; upper: all that it may stand for, not what it surely is."""
        sign = self._next()
        known = _MORE if upper else _LESS
        if sign in known:
            return known[sign]
        if sign in "DWS":
            return without(EVERY, (_LESS if upper else _MORE)[sign.lower()])
        if sign in "xu":
            braced = re.compile(r"\{([0-9a-fA-F]{1,6})\}").match(self.text, self.at)
            plain = re.compile(f"[0-9a-fA-F]{{{2 if sign == 'x' else 4}}}")
            found = braced or plain.match(self.text, self.at)
            if not found:
                raise LanguageError(f"\\{sign} lacks its digits")
            self.at = found.end()
            code = int(found[1] if braced else found[0], 16)
            return ranges([(code, code)]) if code <= LAST else ()
        if sign == "c" and self.text[self.at : self.at + 1].isalpha():
            code = ord(self._next()) % 32
            return ((code, code),)
        if sign == "b" and within:
            return ((8, 8),)
        if sign in _ESCAPES:
            return of_text(_ESCAPES[sign])
        if sign.isalnum():
            raise LanguageError(f"\\{sign} is not held")
        return of_text(sign)

    def _class(self) -> Ranges:
        negated = bool(self._take("^"))
        found: list[tuple[int, int]] = []
        first = True
        while first or not self._take("]"):
            if self.text.startswith(("[:", "[.", "[="), self.at):
                raise LanguageError("named classes are not held")
            if first and self.text.startswith("]", self.at):
                raise LanguageError("a bracket right after its opening is read in two ways")
            first = False
            low = self._member(negated)
            if self.text[self.at : self.at + 1] == "-" and self.text[
                self.at + 1 : self.at + 2
            ] not in ("", "]"):
                self.at += 1
                high = self._member(negated)
                if len(low) != 1 or len(high) != 1 or low[0][0] > high[0][1]:
                    raise LanguageError("a range within brackets is out of order")
                found.append((low[0][0], high[0][1]))
            else:
                found += low
        return without(EVERY, ranges(found)) if negated else ranges(found)

    def _member(self, upper: bool) -> Ranges:
        if self._take("\\"):
            return self._escape(within=True, upper=upper)
        return of_text(self._next())
