"""How well tools fit a request and its parts, and what of it is left to be called."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

# Chosen on real requests with two to five tools on offer. Of others, .98 of those for several calls
# were seen to want another before the last one and nothing after it, and all for one call nothing.
_ASKED_FOR = 0.35  # cosine of a part of a request with a tool that was not called
_RATHER = 0.12  # how much closer it is than those that were
_LATER = 0.06  # what a part counts less than the one before it: calls come in the request's order

_NAME_OR_NUMBER = r"(?:[A-Z]\w+(?: [A-Z]\w+)*|\d[\w.]*\w|\d)"
_ONE = re.compile(_NAME_OR_NUMBER)
_BESIDE = re.compile(
    rf"(?:, {_NAME_OR_NUMBER})*,? (?:and|or|&|as well as) "
    rf"(?:(?:in|for|to|at|of|from|the) )*{_NAME_OR_NUMBER}"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence of a request, or what "and" and "then" set off.

    Attributes:
        text: the text.
        asks: whether it has the form of a question or a wish.
        fits: the cosine with each tool, by a sentence encoder.
    """

    text: str
    asks: bool
    fits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ToolFit:
    """How well tools, told by their places, fit a request.

    Attributes:
        text: the request.
        fits: its cosine with each tool.
        parts: its parts, in their order.
    """

    text: str
    fits: tuple[float, ...]
    parts: tuple[Part, ...]

    def goes_on(self, called: Collection[int], passed: str) -> bool:
        """Whether the request wants another call after those that were made.

        It does where a part of it is about a tool that was not called, and less about those that
        were: clearly so, or where it asks of what no call was passed; and where a value that was
        passed stands in it beside another one, "Paris and Rome", that was not.

        passed: the arguments of the calls, as text.
        """
        if another_value(self.text, passed):
            return True
        if len(set(called)) == len(self.fits):
            return False
        if self._left(called):
            return True
        return len(self.parts) > 1 and any(
            max(part.fits) > max(part.fits[place] for place in called) and _of_others(part, passed)
            for part in self.parts
        )

    def next(self, called: Collection[int]) -> list[float]:
        """How well each tool fits the next call: as well as the part that it fits best, of those
        clearly about none that was called, or else of those whose best tool was not.

        Earlier parts count more, and for the first call half of it is how well a tool fits the
        whole request. All fit alike where no part is left.
        """
        parts = self._left(called) or [
            part.fits for part in self.parts if part.fits.index(max(part.fits)) not in called
        ]
        if not parts:
            return [0.0] * len(self.fits)
        ranked = [[one - _LATER * at for one in fits] for at, fits in enumerate(parts)]
        best = list(map(max, zip(*ranked, strict=True)))
        if called:
            return best
        return [(one + whole) / 2 for one, whole in zip(best, self.fits, strict=True)]

    def _left(self, called: Collection[int]) -> list[tuple[float, ...]]:
        """Of the parts that are about a tool not called, clearly so, how well the tools fit."""
        found = []
        for part in self.parts:
            others = [one for place, one in enumerate(part.fits) if place not in called]
            done = max((part.fits[place] for place in called), default=-1.0)
            if others and max(others) >= max(_ASKED_FOR, done + _RATHER):
                found.append(part.fits)
        return found


def _of_others(part: Part, passed: str) -> bool:
    """Whether a part of a request asks, and names values, none of which was passed to a tool."""
    passed = passed.casefold()
    named = [one.casefold() for one in _ONE.findall(part.text.partition(" ")[2])]
    return part.asks and bool(named) and not any(one in passed for one in named)


def another_value(text: str, passed: str) -> bool:
    """Whether a value that was passed to a tool stands beside another one that was not."""
    passed = passed.casefold()
    for found in _ONE.finditer(text):
        if found[0].casefold() not in passed:
            continue
        beside = _BESIDE.match(text, found.end())
        others = _ONE.findall(beside[0]) if beside else []
        if any(other.casefold() not in passed for other in others):
            return True
    return False
