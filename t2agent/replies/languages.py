"""Regular languages: what a pattern, a format, a length or a range lets a text be.

A language is a term of characters, sequence, choice, repetition, intersection and complement; its
automaton comes from the terms' derivatives by characters (Brzozowski 1964; Owens, Reppy and Turon
2009). So whatever a schema asks of one string is held together, lookarounds too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, ClassVar
from weakref import WeakValueDictionary

Ranges = tuple[tuple[int, int], ...]


class Language:
    """A term: ("chars", ranges), ("seq", a, b), ("or", terms), ("and", terms), ("not", a),
    ("repeat", a, low, high), ("multiple", of, rest) or ("end",), which is the empty text.

    Equal terms are the same object, so that they are compared at once.
    """

    __slots__ = ("__weakref__", "parts", "place")
    _made: ClassVar[WeakValueDictionary[tuple[Any, ...], Language]] = WeakValueDictionary()
    _lock: ClassVar[Lock] = Lock()
    _count: ClassVar[int] = 0

    def __init__(self, parts: tuple[Any, ...], place: int) -> None:
        self.parts, self.place = parts, place

    @classmethod
    def of(cls, *parts: Any) -> Language:
        """The term of these parts."""
        with cls._lock:
            found = cls._made.get(parts)
            if found is None:
                cls._count += 1
                found = cls._made[parts] = cls(parts, cls._count)
            return found

    def __getitem__(self, place: int) -> Any:
        return self.parts[place]

    def __repr__(self) -> str:
        return repr(self.parts)


LAST = 0x10FFFF
MOST = 600
"""States of an automaton that is still written out."""


class LanguageError(ValueError):
    """A pattern that is not held here, or an automaton that is too large."""


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Characters in order, without overlaps and halves of surrogate pairs."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    kept = []
    for low, high in found:
        kept += [(low, min(high, 0xD7FF)), (max(low, 0xE000), high)]
    return tuple((low, high) for low, high in kept if low <= high)


def without(a: Ranges, b: Ranges) -> Ranges:
    """The characters of ``a`` that are not in ``b``."""
    found = []
    for low, high in a:
        for start, end in b:
            if end < low or start > high:
                continue
            if start > low:
                found.append((low, start - 1))
            low = end + 1
        if low <= high:
            found.append((low, high))
    return ranges(found)


def within(a: Ranges, b: Ranges) -> Ranges:
    """The characters that are in both."""
    return without(a, without(a, b))


def of_text(text: str) -> Ranges:
    """The characters of a text."""
    return ranges((ord(one), ord(one)) for one in text)


EVERY = ranges([(0, LAST)])

END = Language.of("end")
NOTHING = Language.of("chars", ())
ANY = Language.of("chars", EVERY)
TEXT = Language.of("repeat", ANY, 0, None)
"""Any text at all."""


def chars(given: Ranges) -> Language:
    """One of these characters."""
    return Language.of("chars", given)


def literal(text: str) -> Language:
    """This text alone."""
    return sequence(*(chars(of_text(one)) for one in text))


def sequence(*parts: Language) -> Language:
    """One after the other."""
    found = END
    for part in reversed(parts):
        if NOTHING in (part, found):
            return NOTHING
        if part[0] == "seq":
            found = sequence(part[1], sequence(part[2], found))
        elif part != END:
            found = part if found == END else Language.of("seq", part, found)
    return found


def either(*ways: Language) -> Language:
    """Any of them."""
    flat: set[Language] = set()
    single: list[tuple[int, int]] = []
    for way in ways:
        for one in way[1] if way[0] == "or" else (way,):
            if one[0] == "chars":
                single += one[1]
            else:
                flat.add(one)
    if TEXT in flat:
        return TEXT
    if single:
        flat.add(chars(ranges(single)))
    if len(flat) < 2:
        return next(iter(flat), NOTHING)
    return Language.of("or", _sorted(flat))


def both(*terms: Language) -> Language:
    """All of them at once."""
    flat: set[Language] = set()
    for term in terms:
        flat.update(term[1] if term[0] == "and" else (term,))
    flat.discard(TEXT)
    if NOTHING in flat:
        return NOTHING
    counted = [one for one in flat if one[0] == "repeat" and one[1][0] == "chars"]
    if len(counted) > 1:  # the same without an automaton, which would count in states
        flat -= set(counted)
        allowed = EVERY
        for one in counted:
            allowed = within(allowed, one[1][1])
        highs = [one[3] for one in counted if one[3] is not None]
        low = max(one[2] for one in counted)
        flat.add(repeated(chars(allowed), low, min(highs, default=None)))
        flat.discard(TEXT)
    if len(flat) < 2:
        return next(iter(flat), TEXT)
    return Language.of("and", _sorted(flat))


def _sorted(terms: Iterable[Language]) -> tuple[Language, ...]:
    return tuple(sorted(terms, key=lambda one: one.place))


def other(term: Language) -> Language:
    """All texts but those."""
    if term[0] == "not":
        inner: Language = term[1]
        return inner
    return NOTHING if term == TEXT else TEXT if term == NOTHING else Language.of("not", term)


def repeated(term: Language, low: int, high: int | None) -> Language:
    """The term so many times; None for no bound."""
    if high is not None and high < low:
        return NOTHING
    if high == 0 or term == END:
        return END
    if term == NOTHING:
        return END if low == 0 else NOTHING
    return term if low == high == 1 else Language.of("repeat", term, low, high)


def length(low: int, high: int | None) -> Language:
    """Texts of so many characters."""
    return repeated(ANY, low, high)


def counted(text: Language) -> tuple[Ranges, int, int | None] | None:
    """The characters and bounds of a language that only counts them."""
    if text[0] == "repeat" and text[1][0] == "chars":
        return text[1][1], text[2], text[3]
    return None


def structural(text: Language) -> Language | None:
    """A term, where it can be written without an automaton."""
    if text[0] in ("and", "not", "multiple"):
        return None
    if text[0] == "or":
        inner = text[1]
    elif text[0] == "seq":
        inner = text.parts[1:]
    else:
        inner = text.parts[1:2] if text[0] == "repeat" else ()
    ok = all(structural(one) is not None for one in inner)
    return text if ok else None


def multiple(of: int) -> Language:
    """Digits of a number that a whole number divides."""
    return Language.of("multiple", of, 0)


@lru_cache(maxsize=1 << 14)
def empty(term: Language) -> bool:
    """Whether the empty text is of the language."""
    kind, *rest = term.parts
    if kind in ("end", "not"):
        return kind == "end" or not empty(rest[0])
    if kind == "seq":
        return empty(rest[0]) and empty(rest[1])
    if kind == "or":
        return any(map(empty, rest[0]))
    if kind == "and":
        return all(map(empty, rest[0]))
    if kind == "repeat":
        return bool(rest[1] == 0) or empty(rest[0])
    return bool(kind == "multiple" and rest[1] == 0)


@lru_cache(maxsize=1 << 15)
def after(term: Language, character: int) -> Language:
    """What may follow the character."""
    kind = term[0]
    if kind == "chars":
        there = any(low <= character <= high for low, high in term[1])
        return END if there else NOTHING
    if kind == "seq":
        first, rest = term[1], term[2]
        found = sequence(after(first, character), rest)
        return either(found, after(rest, character)) if empty(first) else found
    if kind == "or":
        return either(*(after(one, character) for one in term[1]))
    if kind == "and":
        return both(*(after(one, character) for one in term[1]))
    if kind == "not":
        return other(after(term[1], character))
    if kind == "repeat":
        inner, low, high = term.parts[1:]
        left = repeated(inner, max(low - 1, 0), None if high is None else high - 1)
        return sequence(after(inner, character), left)
    if kind == "multiple" and 48 <= character <= 57:
        return Language.of("multiple", term[1], (10 * term[2] + character - 48) % term[1])
    return NOTHING


@lru_cache(maxsize=1 << 14)
def _cuts(term: Language) -> frozenset[int]:
    """Where characters begin that lead elsewhere than those before them."""
    kind = term[0]
    if kind == "chars":
        return frozenset(one for low, high in term[1] for one in (low, high + 1))
    if kind == "seq":
        first, rest = term[1], term[2]
        return _cuts(first) | (_cuts(rest) if empty(first) else frozenset())
    if kind in ("or", "and"):
        return frozenset().union(*map(_cuts, term[1]))
    if kind in ("not", "repeat"):
        return _cuts(term[1])
    return frozenset(range(48, 59)) if kind == "multiple" else frozenset()


@dataclass(slots=True)
class Automaton:
    """A language's automaton; the first state is 0, and from each an end can be reached.

    Attributes:
        steps: for each state, the characters that lead to another.
        ends: the states that are an end.
        rests: for each state, a shortest text to an end.
    """

    steps: list[dict[int, Ranges]] = field(default_factory=list)
    ends: frozenset[int] = frozenset()
    rests: list[str] = field(default_factory=list)

    @property
    def states(self) -> int:
        """How many; none where the language is empty."""
        return len(self.steps)

    def texts(self, most: int) -> list[str] | None:
        """All texts; None where there are more than that, or endlessly many."""
        found: list[str] = []
        waiting: deque[tuple[int, str]] = deque([(0, "")] if self.states else [])
        while waiting:
            state, text = waiting.popleft()
            if state in self.ends:
                found.append(text)
            for then, given in self.steps[state].items():
                if len(text) > 64 or sum(high - low for low, high in given) > most:
                    return None
                for low, high in given:
                    waiting += [(then, text + chr(one)) for one in range(low, high + 1)]
            if len(found) + len(waiting) > 4 * most:
                return None
        return found if len(found) <= most else None


@lru_cache(maxsize=512)
def automaton(term: Language, most: int = MOST) -> Automaton:
    """The language's automaton. Raises LanguageError for more states than that."""
    numbers, steps = {term: 0}, []
    waiting = deque([term])
    while waiting:
        one = waiting.popleft()
        cuts = sorted({0, *_cuts(one)})
        ways: dict[int, list[tuple[int, int]]] = {}
        for place, low in enumerate(cuts):
            if low > LAST:
                continue
            high = cuts[place + 1] - 1 if place + 1 < len(cuts) else LAST
            then = after(one, low)
            if then == NOTHING:
                continue
            if then not in numbers:
                if len(numbers) >= most:
                    raise LanguageError(f"it takes more than {most} states")
                numbers[then] = len(numbers)
                waiting.append(then)
            ways.setdefault(numbers[then], []).append((low, high))
        steps.append({then: ranges(pairs) for then, pairs in ways.items()})
    return _alive(steps, {number for one, number in numbers.items() if empty(one)})


def _alive(steps: Sequence[Mapping[int, Ranges]], ends: set[int]) -> Automaton:
    """Without the states from which no end is reached."""
    before: list[list[tuple[int, str]]] = [[] for _ in steps]
    for state, ways in enumerate(steps):
        for then, given in ways.items():
            if given:
                before[then].append((state, plain(given)))
    rests: dict[int, str] = dict.fromkeys(sorted(ends), "")
    waiting = deque(rests)
    while waiting:
        state = waiting.popleft()
        for earlier, character in before[state]:
            if earlier not in rests:
                rests[earlier] = character + rests[state]
                waiting.append(earlier)
    if 0 not in rests:
        return Automaton()
    order = sorted(rests)
    place = {state: number for number, state in enumerate(order)}
    return Automaton(
        [
            {place[then]: given for then, given in steps[state].items() if then in place and given}
            for state in order
        ],
        frozenset(place[state] for state in ends),
        [rests[state] for state in order],
    )


@lru_cache(maxsize=1 << 12)
def plain(given: Ranges) -> str:
    """A character of the set that is easily written."""
    for wanted in (97, 48, 65, 47, 46, 95, 32):
        if any(low <= wanted <= high for low, high in given):
            return chr(wanted)
    printable = [low for low, high in given if high >= 33]
    return chr(max(printable[0], 33) if printable else given[0][0])
