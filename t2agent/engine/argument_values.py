"""Arguments that are copied from the conversation, for models too small to be trusted with more.

A model of a few million parameters copies names that it has never seen with slips, and takes a
word of the tool's for a value. Where its base asks for it, the values of strings and numbers are
held to what stands in the texts: stretches of words, and numbers (`held`). For tools that no
expert has learned, a sentence encoder and the order of words say which value is meant for which
argument (`filled`). Where t2-nano's likelihood chose among the same values, fewer were right: .48
of the calls where it chose each value, .75 where it chose among the eight best sets of arguments,
.83 where it did not choose (40 requests in plain English).
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from t2agent.replies.schemas import parameters
from t2agent.replies.schemas import properties as properties_of

Likeness = Callable[[Sequence[str], Sequence[str]], Sequence[Sequence[float]]]
"""(texts, texts) -> their cosines, a row for each of the first."""

_WORD = re.compile(r"[^\W_](?:[\w\-:.'/@]*[^\W_])?|[^\w\s]")
_QUOTED = re.compile(r"""["“]([^"“”]+)["”]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)""")
_JOINED = re.compile(r"\s*(?:[,;/&]|,?\s+(?:and|or|und|plus))\s*")
_NUMBER = re.compile(r"(?<![\w.:-])-?\d+(?:\.\d+)?(?![\w:-]|\.\d)")
_ENDING = re.compile(r"(?:ing|ies|es|ed|s|e)$")
_ASKING = frozenset(
    (
        *("want", "need", "like", "tell", "set", "make", "turn", "switch", "send", "let", "know"),
        *("use", "do", "does", "did", "many", "much", "long", "far", "there", "today", "now"),
        *("called", "named", "going", "just", "right", "say", "staying", "talk", "using"),
    )
)
_SIGNS = frozenset("*+-/=^")  # may stand within a value
_LEADING = frozenset(("in", "to", "from", "for", "at", "on", "by", "of", "with", "about", "into"))
_LONGEST = 12  # words of a value
_MOST = 400  # values of an argument; more are not held to
_TRIED = 12  # values of an argument that are combined with those of others
_SPECIAL = frozenset({"const", "format", "pattern", "$ref", "anyOf", "oneOf", "allOf"})

_ORDER, _LENGTH, _QUOTES, _LED, _NAMED = 0.12, 0.1, 0.3, 0.15, 1.0
"""Weights beside the cosine of an argument's name with its value: values in the order of the
arguments; each word of a value; a value that is quoted; one that a preposition leads to; a choice
that stands in the text, and a number beside the argument's name."""


@dataclass(frozen=True, slots=True)
class _Value:
    """What an argument may be, where it stands, and how good that is by itself.

    ``run``: the number of its run of neighbouring words; -1 where it is no words. ``phrase``: the
    value with the preposition that leads to it.
    """

    value: Any
    start: int = -1
    end: int = -1
    run: int = -1
    worth: float = 0.0
    phrase: str = ""


def held(
    tool: Mapping[str, Any], texts: Sequence[str], *, strings: bool = True
) -> Mapping[str, Any]:
    """One of OpenAI's function tools with its plain strings and numbers, and lists of them, held
    to the texts. Where these hold no such value, anything goes. strings: whether strings are."""
    function, schema = tool["function"], parameters(tool["function"])
    found = _Found.of(function, texts)
    properties = {
        key: one if _kind(one) == "string" and not strings else _held(one, found)
        for key, one in properties_of(schema).items()
    }
    return _with(tool, {**schema, "properties": properties})


def filled(
    tool: Mapping[str, Any], texts: Sequence[str], likeness: Likeness
) -> Mapping[str, Any] | None:
    """The tool with the arguments that the texts hold for it, and no others.

    None where it takes others than strings, numbers, truth values, choices and lists of strings
    or numbers, or where the texts hold too few values.
    """
    function, schema = tool["function"], parameters(tool["function"])
    properties = properties_of(schema)
    needed = [key for key in properties if key in (schema.get("required") or ())]
    found = _Found.of(function, texts)
    for keys in (list(properties), needed):
        best = max(_combined(keys, properties, found, likeness), key=_score, default=())
        if best:
            arguments = {key: one.value for key, one in zip(keys, best, strict=True)}
            return _with(tool, {"enum": [arguments]})
    return None


def numeric(tool: Mapping[str, Any]) -> bool:
    """Whether a tool takes numbers and nothing else."""
    given = properties_of(parameters(tool["function"])).values()
    return bool(given) and all(_kind(one) in ("integer", "number") for one in given)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the texts hold: words that may be values in runs of neighbours, and numbers."""

    text: str
    stretches: Sequence[_Value]
    numbers: Sequence[_Value]

    @classmethod
    def of(cls, function: Mapping[str, Any], texts: Sequence[str]) -> _Found:
        """From the texts, as a tool needs them: its own words are no values, unless nothing else
        is left, and what holds a number is none where an argument is a number."""
        text = "\n".join(texts)
        properties = properties_of(parameters(function))
        strings = sum(_kind(one) == "string" and "enum" not in one for one in properties.values())
        own = " ".join((str(function["name"]), str(function.get("description", "")), *properties))
        used = {_stem(word) for word in re.findall(r"[^\W_]+", own)}
        used |= {_stem(str(one)) for p in properties.values() for one in _choices(p)}
        numeric = any(_kind(one) in ("integer", "number") for one in properties.values())
        stretches: list[_Value] = []
        for words, first in ((used, False), (used, True), (set(), True)):
            stretches = [
                one
                for one in _stretches(text, words, first=first)
                if not (numeric and _NUMBER.search(one.value))
            ]
            if len({one.run for one in stretches}) >= strings:
                break
        numbers = [
            _Value(float(m[0]) if "." in m[0] else int(m[0]), *m.span())
            for m in _NUMBER.finditer(text)
        ]
        return cls(text, stretches, numbers)

    def values(self, schema: Any) -> list[_Value]:
        """The values of an argument."""
        kind = _kind(schema)
        if kind == "boolean":
            return [_Value(True), _Value(False)]
        if choices := _choices(schema):
            said = {
                one: bool(re.search(rf"\b{re.escape(str(one))}\b", self.text, re.IGNORECASE))
                for one in choices
            }
            return [_Value(one, worth=_NAMED * said[one]) for one in choices]
        if not isinstance(schema, Mapping) or _SPECIAL & schema.keys():
            return []
        if kind == "string":
            return list(self.stretches)
        if kind in ("integer", "number"):
            return [one for one in self.numbers if kind == "number" or isinstance(one.value, int)]
        if kind == "array":
            listed = self.listed(schema, set())
            return [_Value(listed)] if listed else []
        return []

    def listed(self, schema: Any, taken: set[int]) -> list[Any]:
        """The values of a list, but those of runs that are taken: of words, the longest row that
        commas and the like join."""
        inner = self.values(schema.get("items"))
        inner = [one for one in inner if one.run < 0 or one.run not in taken]
        whole = {one.run: one for one in sorted(inner, key=lambda one: one.end - one.start)}
        if not any(run >= 0 for run in whole):  # numbers are in no run
            return [one.value for one in inner]
        rows: list[list[_Value]] = []
        for one in sorted(whole.values(), key=lambda one: one.start):
            if rows and _JOINED.fullmatch(self.text, rows[-1][-1].end, one.start):
                rows[-1].append(one)
            else:
                rows.append([one])
        return [one.value for one in max(rows, key=len)]

    def beside(self, number: _Value, key: str) -> bool:
        """Whether an argument's name, or a form of it, stands beside a number."""
        before = re.search(r"([^\W_]+)\W*$", self.text[: number.start])
        after = re.match(r"\W*([^\W\d_]+)", self.text[number.end :])
        names = {_stem(part) for part in key.split("_")}
        return any(match is not None and _stem(match[1]) in names for match in (before, after))


def _held(schema: Any, found: _Found) -> Any:
    if not isinstance(schema, Mapping) or "enum" in schema or _SPECIAL & schema.keys():
        return schema
    if _kind(schema) == "array":
        return {**schema, "items": _held(schema.get("items"), found)}
    if _kind(schema) not in ("string", "integer", "number"):
        return schema
    allowed = list(dict.fromkeys(one.value for one in found.values(schema)))
    return {**schema, "enum": allowed} if 0 < len(allowed) <= _MOST else schema


def _combined(
    keys: Sequence[str], properties: Mapping[str, Any], found: _Found, likeness: Likeness
) -> Iterator[tuple[_Value, ...]]:
    """All sets of values, each from another run of words; lists take what the others leave."""
    given = []
    for key in keys:
        values = found.values(properties[key])
        words = [one for one in values if one.run >= 0]
        if words:
            alike = likeness([key.replace("_", " ")], [one.phrase for one in words])[0]
            values = [
                replace(one, worth=one.worth + _LENGTH * len(one.value.split()) + like)
                for one, like in zip(words, alike, strict=True)
            ]
        elif _kind(properties[key]) in ("integer", "number"):
            values = [replace(one, worth=_NAMED * found.beside(one, key)) for one in values]
        given.append(heapq.nlargest(_TRIED, values, key=lambda one: one.worth))
    lists = [_kind(properties[key]) == "array" for key in keys]
    for chosen in itertools.product(*given):
        if _apart(chosen):
            rest = {one.run for one in chosen}
            yield tuple(
                replace(one, value=found.listed(properties[key], rest)) if many else one
                for key, one, many in zip(keys, chosen, lists, strict=True)
            )


def _apart(values: Sequence[_Value]) -> bool:
    runs = [one.run for one in values if one.run >= 0]
    starts = [one.start for one in values if one.start >= 0]
    return len(set(runs)) == len(runs) and len(set(starts)) == len(starts)


def _score(values: Sequence[_Value]) -> float:
    placed = [one for one in values if one.start >= 0]
    ordered = sum(one.start < other.start for one, other in itertools.pairwise(placed))
    return sum(one.worth for one in values) + _ORDER * ordered


def _stretches(text: str, used: set[str], *, first: bool) -> Iterator[_Value]:
    """What is quoted, and stretches of neighbouring words that are neither function words nor the
    tool's own. first: whether the first word of a sentence, often a verb, may be one."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    run = 0
    for run, match in enumerate(_QUOTED.finditer(text)):
        said = 1 if match[1] else 2
        yield _Value(match[said], match.start(said), match.end(said), run, _QUOTES, match[said])
    text = _QUOTED.sub(lambda match: " " * (len(match[0]) - 1) + "|", text)
    runs: list[list[re.Match[str]]] = [[]]
    leading: list[str] = [""]
    starts, before = True, ""
    for match in _WORD.finditer(text):
        word = match[0].lower()
        plain = word in _SIGNS or (
            word[0].isalnum() and word not in ENGLISH_STOP_WORDS and word not in _ASKING
        )
        if plain and _stem(word) not in used and (first or not starts):
            if not runs[-1]:
                leading[-1] = before
            runs[-1].append(match)
        elif runs[-1]:
            runs.append([])
            leading.append("")
        if word not in ("the", "a", "an", "my"):
            before = word if word in _LEADING else ""
        starts = word in {".", "!", "?", ":", ";"}
    for number, (words, led) in enumerate(zip(runs, leading, strict=True), start=run + 1):
        for i, j in itertools.combinations_with_replacement(range(len(words)), 2):
            ends = {words[i][0], words[j][0]}
            if j - i < _LONGEST and not _SIGNS & ends:
                start, end = words[i].start(), words[j].end()
                value, by = text[start:end], led if i == 0 else ""
                worth = _LED if by else 0.0
                yield _Value(value, start, end, number, worth, f"{by} {value}".strip())


def _with(tool: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**tool, "function": {**tool["function"], "parameters": schema}}


def _kind(schema: Any) -> object:
    return schema.get("type") if isinstance(schema, Mapping) else None


def _choices(schema: Any) -> Sequence[Any]:
    given = schema.get("enum") if isinstance(schema, Mapping) else None
    return given if isinstance(given, list | tuple) else ()


def _stem(word: str) -> str:
    """About the part of an English word that its forms share."""
    return _ENDING.sub("", word.lower())
