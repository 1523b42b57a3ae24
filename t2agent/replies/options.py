"""Options that a request offers, one of which is to be the answer: labels for a text that it holds.

They are read off the form, since texts, labels and wordings may be any: a list in brackets, after a
colon or joined by "or", or in lines with marks, in a sentence that stands apart from the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STAND_IN = "A, B or C"
"""What stands in `Options.asked` for the options."""

_MOST = 200  # options
_WORDS = 12  # of an option within a sentence
_LINE_WORDS = 30  # of one in a line of its own
_LEAST_TEXT = 2  # words of what gets a label
_ASKING_WORDS = 40  # of the sentence around them

_IN_WORD = r"[^\s,;:|/()\[\]{}?!.\"“”]"
_WORD = rf"{_IN_WORD}++(?:[./]{_IN_WORD}++)*"
_ITEM = rf"[\"'“”]?{_WORD}(?: {_WORD}){{0,11}}[\"'“”]?"
_SHORT = rf"[\"'“”]?{_WORD}(?: {_WORD}){{0,2}}[\"'“”]?"
_ENDS = r"[.:?!]|$|, (?:which|what|who|how|classify|label|choose|pick|say)\b"
_BEFORE = r"\b(?:of|from|as|into|between|among|options|labels|choices)"
# Whatever place of a list a search starts at, it looks at so many options and not at all of them:
# the time grows with the text's length and not with its square.
_LISTS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"[\[({]([^\[\](){}\n]{3,4000})[\])}]",
        rf"[:=] ?({_ITEM}(?:(?:,|;| \||/) ?{_ITEM})+)(?=[.?]?$|[.;?] )",
        rf"{_BEFORE} ({_SHORT}(?:, ?{_SHORT}){{1,{_MOST}}},?(?: (?:or|and) {_SHORT})?)(?={_ENDS})",
        rf"\bbetween ({_SHORT} and {_SHORT})(?=[.:?!]|$)",
        rf"(?:(?<!{_IN_WORD})|(?=[\"“”]))((?:{_ITEM}, ){{0,{_MOST}}}{_ITEM},? or {_SHORT})",
    )
)
_MARKED = re.compile(r"[ \t]*(?:[-*•+]|\(?(?:[A-Za-z]|\d{1,2})[.):])[ \t]+(\S.*?)[ \t]*$")
_SEPARATORS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (r"\s*[,;|]\s*(?:(?:or|and)\b\s*)?|\s+or\s+", r"\s*/\s*", r"\s+and\s+")
)
_LEADING = re.compile(  # words that a list begins with where only "or" tells it
    r"(?:(?:please|tell|say|me|if|whether|is|are|be|does|this|that|it|the|text|either|into|of|from|as|"
    r"you|what|which|possible|answers?|options?|labels?|out)\s+)+",
    re.IGNORECASE,
)
_QUOTED_TEXT = re.compile(r"\"(?:[^\"\s]+ ){3,}[^\"\n]*\"|“(?:[^”\s]+ ){3,}[^”\n]*”")
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+")
_ASKING_END = re.compile(r"[.?!:](?=\s|$)")
_HEAD = re.compile(r"(.{3,80}?:) ?(\S.*)$")


@dataclass(frozen=True, slots=True)
class Options:
    """Attributes:
    options: what may be answered, in the request's order.
    asked: the sentence that offers them, with `STAND_IN` in their place.
    """

    options: tuple[str, ...]
    asked: str


def offered_options(text: str) -> tuple[Options, ...]:
    """What a request may offer as options, besides the text that one of them is for.

    Lists of words are everywhere: whether a sentence asks to choose is for the caller to see.
    A request that holds nothing but that sentence offers no options for a text.
    """
    lines = text.split("\n")
    words = len(text.split())
    return tuple(_in_lines(lines, words)) or tuple(
        one for line in lines for one in _in_line(line, words)
    )


def _in_lines(lines: list[str], words: int) -> Iterator[Options]:
    """Options in lines of their own, with the line before them."""
    marked = [_MARKED.match(line) for line in lines]
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and marked[end]:
            end += 1
        options = tuple(one[1] for one in marked[start:end] if one)
        head = next((line.strip() for line in reversed(lines[:start]) if line.strip()), "")
        if head and _are_options(options, _LINE_WORDS):
            cut = _HEAD.match(head)
            if cut and len(cut[2].split()) >= _LEAST_TEXT:
                head = cut[1]
            head = _SENTENCE_END.split(head)[-1]
            if words - len(" ".join([head, *lines[start:end]]).split()) >= _LEAST_TEXT:
                yield Options(options, f"{head.rstrip(':')}: {STAND_IN}")
        start = max(end, start + 1)


def _in_line(line: str, words: int) -> Iterator[Options]:
    line = _QUOTED_TEXT.sub('"text"', line)
    for form in _LISTS:
        found = [one for match in form.finditer(line) if (one := _of(line, match.span(1), words))]
        yield from found
        if found:
            return


def _of(line: str, place: tuple[int, int], words: int) -> Options | None:
    """The options at a place of a line, and the sentence around it without what it quotes.

    words: of the whole request.
    """
    start, end = place
    if leading := _LEADING.match(line, start, end):
        start = leading.end()
    for separator in _SEPARATORS:
        parts = [part.strip(" \"'“”.") for part in separator.split(line[start:end])]
        if len(parts) > 1:
            break
    options = tuple(filter(None, parts))
    if not _are_options(options, _WORDS):
        return None
    begun = max((match.end() for match in _SENTENCE_END.finditer(line, 0, start)), default=0)
    ended = _ASKING_END.search(line, end)
    before, after = line[begun:start], line[end : ended.end() if ended else len(line)]
    before, after = _QUOTED.sub('"text"', before), _QUOTED.sub('"text"', after)
    text = words - len(f"{before}{line[start:end]}{after}".split())
    asked = f"{before}{STAND_IN}{after}".strip()
    if text < _LEAST_TEXT or len(asked.split()) > _ASKING_WORDS:
        return None
    return Options(options, asked)


def _are_options(given: tuple[str, ...], words: int) -> bool:
    return (
        2 <= len(given) <= _MOST
        and all(len(one.split()) <= words for one in given)
        and len(set(given)) == len(given)
    )
