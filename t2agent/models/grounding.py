"""What the values of a JSON reply lose that are not in what was said.

A small model makes values up, most of all for arguments that the request does not speak of. A value
loses some nats, once, with the token by which it leaves what was said. Where several beginnings of
a reply are compared (`t2agent.models.beams`), one without that argument, or with a value that was
said, is then likelier. Of the strings that real requests' calls hold, nine in ten are in the
request, word for word; of those that smollm2 wrote and were not, none in ten was right.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence, Set

from torch import Tensor

from t2agent.models.closing import Speller
from t2agent.models.compiling import Tokens
from t2agent.replies.open_value import OpenValue

_BEGINNINGS = re.compile(rb"(?<![\w\x80-\xff])(?=[\w\x80-\xff])|(?<!\S)(?=\S)")
_WITHIN = re.compile(rb"[.,:-]?\d|[@/._]?[A-Za-z\x80-\xff]|_")  # of a word, number or address
_WORD_END = re.compile(rb"[\w\x80-\xff]$")
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
        new._value = copy.copy(self._value)
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
            self._string(value.text, scores)
        elif _DIGITS.fullmatch(value.text):
            self._number(value.text, scores)

    def _string(self, written: bytes, scores: Tensor) -> None:
        places = self._said.after(written)
        if not places:
            return  # it has left before
        kept = self._said.going_on(places)
        if not written or self._said.may_end(places):
            kept |= self._quotes
        _all_but(kept, scores, self._nats)

    def _number(self, written: bytes, scores: Tensor) -> None:
        digits = written.removeprefix(b"-")
        places = self._said.after(digits)
        if not places:
            return
        kept = {one for one in self._said.going_on(places) if _DIGITS.fullmatch(self._texts[one])}
        if digits and not self._said.may_end(places):
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
        self._values = [value.encode() for value in values]
        self._longest = tokens.longest
        self._kept = max(map(len, self._values), default=0) + 1
        self._tail = b""

    def fork(self) -> Copying:
        """What goes on from here by itself."""
        return copy.copy(self)

    def accept(self, token: int) -> None:
        """Go on by a token."""
        self._tail = (self._tail + self._texts[token])[-self._kept :]

    def weigh(self, scores: Tensor) -> None:
        """Take it from the scores (vocabulary,) of the tokens."""
        rests = {value[size:] for value in self._values if (size := self._written(value))}
        if rests and b"" not in rests:
            kept = {token for rest in rests for token in self._speller.first(rest[: self._longest])}
            _all_but(kept, scores, self._nats)

    def _written(self, value: bytes) -> int:
        """How much of a value has just been written, from its beginning."""
        for size in range(min(len(value), len(self._tail)), _BEGUN - 1, -1):
            before, last = self._tail[:-size], self._tail[-size:]
            if value.startswith(last) and _WORD_END.search(before) is None:
                return size
        return 0


class _Said:
    """Where values may stand in what was said."""

    def __init__(self, tokens: Tokens, speller: Speller, said: str) -> None:
        words = (_NUMBERS.get(word) for word in re.findall(r"\w+", said.lower()))
        whole = " ".join((said, _THOUSANDS.sub("", said), *filter(None, words)))
        self._text = json.dumps(whole, ensure_ascii=False)[1:-1].encode()
        self._longest, self._speller = tokens.longest, speller
        self._beginnings = [found.start() for found in _BEGINNINGS.finditer(self._text)]

    def after(self, written: bytes) -> list[int]:
        """The places where a value goes on that is written so far."""
        found = (at for at in self._beginnings if self._text.startswith(written, at))
        return [at + len(written) for at in found]

    def going_on(self, places: Sequence[int]) -> set[int]:
        """The tokens that go on there as it was said."""
        rests = {self._text[at : at + self._longest] for at in places}
        return {token for rest in rests for token in self._speller.first(rest)}

    def may_end(self, places: Sequence[int]) -> bool:
        """Whether no word goes on at one of them."""
        return any(_WITHIN.match(self._text, at) is None for at in places)


def _all_but(kept: Set[int], scores: Tensor, nats: float) -> None:
    """All other tokens lose so much."""
    places = list(kept)
    before = scores[places]
    scores -= nats
    scores[places] = before
