"""What the values of a JSON reply lose that are not in what was said.

A small model makes values up, most of all for arguments that the request does not speak of. A value
loses some nats, once, with the token by which it leaves what was said. Where several beginnings of
a reply are compared (`t2agent.models.beams`), one without that argument, or with a value that was
said, is then likelier. Of the strings that real requests' calls hold, nine in ten are in the
request, word for word; of those that smollm2 wrote and were not, one in ten was right. A string
that an argument of the same call has already loses as much at its end.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from torch import Tensor

from t2agent.models.closing import Speller
from t2agent.models.compiling import Tokens
from t2agent.replies.open_value import OpenValue

_BEGINNINGS = re.compile(rb"(?<![\w\x80-\xff])(?=[\w\x80-\xff])|(?<!\S)(?=\S)")
_WITHIN = re.compile(rb"[.,:-]?\d|[@/._]?[A-Za-z\x80-\xff]|_")  # of a word, number or address
_DIGITS = re.compile(rb"-?[\d.]*")
_BEGUN = 3  # bytes of a value: less is any word's
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    )
}


class Grounding:
    """What the tokens of one reply lose, after what it has written so far.

    names: texts after which the arguments of a call begin; none where the reply itself is JSON.
    said: what values may be from. nats: what a value loses.
    """

    def __init__(
        self, tokens: Tokens, speller: Speller, names: Sequence[bytes], said: str, nats: float
    ) -> None:
        self._texts, self._names, self._nats = tokens.texts, names, nats
        self._said = _Said(tokens, speller, said)
        self._quotes, self._digits = tokens.quotes, tokens.digits
        self._kept = max(map(len, names), default=0) + tokens.longest
        self._tail = b""
        self._value = None if names else OpenValue()

    def fork(self) -> Grounding:
        """What goes on from here by itself."""
        new = copy.copy(self)
        new._value = copy.deepcopy(self._value)
        return new

    def accept(self, token: int) -> None:
        """Go on by a token."""
        text = self._texts[token]
        if self._value is not None and not self._value.ended:
            self._value.read(text)
        elif self._names:
            self._tail = (self._tail + text)[-self._kept :]
            for name in self._names:
                _, found, rest = self._tail.rpartition(name)
                if found:
                    self._tail, self._value = b"", OpenValue()
                    self._value.read(rest)

    def weigh(self, scores: Tensor) -> None:
        """Take it from the scores (vocabulary,) of the tokens."""
        value = self._value
        if value is None or value.text is None:
            return
        if value.quoted:
            self._string(value, value.text, scores)
        elif _DIGITS.fullmatch(value.text):
            self._number(value.text.removeprefix(b"-"), scores)

    def _string(self, value: OpenValue, written: bytes, scores: Tensor) -> None:
        ways = self._said.ways(written)
        if ways is None:
            return  # it has left before
        again = written in value.before and not value.listed
        whole = not written or (ways.end and not again)
        _all_but(ways.tokens | self._quotes if whole else ways.tokens, scores, self._nats)

    def _number(self, written: bytes, scores: Tensor) -> None:
        ways = self._said.ways(written)
        if ways is None:
            return
        kept = {token for token in ways.tokens if _DIGITS.fullmatch(self._texts[token])}
        if written and not ways.end:
            _all_but(kept, scores, self._nats)
        else:
            scores[list(self._digits - kept)] -= self._nats


class Copying:
    """What the tokens of a text lose that leave a value of a tool's result half-way: names are
    miscopied by small models.

    values: the values. nats: what it costs to leave one.
    """

    def __init__(
        self, tokens: Tokens, speller: Speller, values: Sequence[str], nats: float
    ) -> None:
        self._texts, self._speller, self._nats = tokens.texts, speller, nats
        self._values: dict[bytes, list[bytes]] = {}
        encoded = [_bytes(value) for value in values]
        for value in encoded:
            self._values.setdefault(value[:_BEGUN], []).append(value)
        self._longest = tokens.longest
        self._kept = max(map(len, encoded)) + 1
        self._tail = b""

    def fork(self) -> Copying:
        """What goes on from here by itself."""
        return copy.copy(self)

    def accept(self, token: int) -> None:
        """Go on by a token."""
        self._tail = (self._tail + self._texts[token])[-self._kept :]

    def weigh(self, scores: Tensor) -> None:
        """Take it from the scores (vocabulary,) of the tokens."""
        rests = set(self._rests())
        if rests and b"" not in rests:
            kept = {token for rest in rests for token in self._speller.first(rest[: self._longest])}
            _all_but(kept, scores, self._nats)

    def _rests(self) -> Iterator[bytes]:
        """What is left of the values that are being written."""
        for found in _BEGINNINGS.finditer(self._tail):
            if found.start() == 0 and len(self._tail) == self._kept:
                continue  # it may be within a word
            written = self._tail[found.start() :]
            for value in self._values.get(written[:_BEGUN], ()):
                if len(written) >= _BEGUN and value.startswith(written):
                    yield value[len(written) :]


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a value may go on: by which tokens, and whether it may end."""

    tokens: frozenset[int]
    end: bool


class _Said:
    """Where values may stand in what was said."""

    def __init__(self, tokens: Tokens, speller: Speller, said: str) -> None:
        words = (_NUMBERS.get(word) for word in re.findall(r"\w+", said.lower()))
        whole = " ".join((said, _THOUSANDS.sub("", said), *filter(None, words)))
        self._text = _bytes(json.dumps(whole, ensure_ascii=False)[1:-1])
        self._longest, self._speller = tokens.longest, speller
        self._beginnings = [found.start() for found in _BEGINNINGS.finditer(self._text)]
        self._known: dict[bytes, _Ways | None] = {}

    def ways(self, written: bytes) -> _Ways | None:
        """As it was said, from what is written of a value; None where that was not."""
        if written not in self._known:
            found = (at for at in self._beginnings if self._text.startswith(written, at))
            places = [at + len(written) for at in found]
            rests = {self._text[at : at + self._longest] for at in places}
            tokens = frozenset(token for rest in rests for token in self._speller.first(rest))
            end = any(_WITHIN.match(self._text, at) is None for at in places)
            self._known[written] = _Ways(tokens, end) if places else None
        return self._known[written]


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")  # half of a character, as JSON may have it


def _all_but(kept: Set[int], scores: Tensor, nats: float) -> None:
    """All other tokens lose so much."""
    places = list(kept)
    before = scores[places]
    scores -= nats
    scores[places] = before
