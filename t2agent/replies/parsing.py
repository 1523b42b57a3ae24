"""From a reply's text to tool calls, piece by piece while it is generated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2agent.replies.format import ToolFormat
from t2agent.replies.schemas import ArgumentSchemas


@dataclass(frozen=True, slots=True)
class CallPiece:
    """Part of the call number `index`: its name comes once and first, then text of its arguments,
    whose pieces together are a JSON object."""

    index: int
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Call:
    """A call as it was written: ``arguments`` is JSON text, whole only where ``complete``."""

    name: str
    arguments: str = ""
    complete: bool = False

    def parsed(self) -> dict[str, Any] | None:
        """The arguments; None where they are no JSON object, or were cut short."""
        if not self.complete:
            return None
        try:
            found = json.loads(self.arguments or "{}", strict=False)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def spoiler(self) -> str:
        """Text after which the arguments of an incomplete call are no JSON, however it is mended:
        who adds up pieces of a stream must not take a call that was cut short for a whole one."""
        scan, rest = JsonScan(), self.arguments
        while rest:
            rest = rest[scan.feed(rest) :]
        quote = ("\\" if scan.escaped else "") + '"' if scan.quoted else ""
        return quote + ("}" if scan.opened and scan.opened[-1] == "[" else "]")


Piece = str | CallPiece


@dataclass(slots=True)
class ReplyParser:
    """Reads a reply whose calls are in a format.

    ``tools``: OpenAI's function tools: what only looks like a call, but names none of them, is
    text; and their schemas tell what arguments stand for that are not JSON. None where they are
    not known.

    A call of which only the beginning came is in ``calls`` as well, not complete. White space
    around calls belongs to the format, not to ``content``.
    """

    format: ToolFormat
    tools: Sequence[Mapping[str, Any]] | None = None
    calls: list[Call] = field(default_factory=list)
    content: str = ""
    _text: str = ""
    _opened: str = ""  # space and opening before the name that is being read
    _read: Callable[[], list[Piece] | None] | None = None
    _scan: JsonScan | None = None
    _written: int = 0
    _schemas: ArgumentSchemas = field(init=False)

    def __post_init__(self) -> None:
        self._schemas = ArgumentSchemas(self.tools or ())

    def push(self, text: str) -> list[Piece]:
        """What is certain now and was not before: text of the content, and pieces of calls."""
        self._text += text
        pieces: list[Piece] = []
        while True:
            step = (self._read or self._content)()
            if step is None:
                return pieces
            pieces += step

    def finish(self) -> list[Piece]:
        """The same, when no more text comes. Calls that are still open stay incomplete."""
        rest, self._text = self._text, ""
        if self._read == self._name:
            if self.tools is None or (rest and self._is_known(rest)):
                known = [name for name in self._schemas.names if self._begins(rest, name)]
                whole = [name for name in known if rest.startswith(self.format.name(name))]
                name = max(whole, key=len, default=self.format.read_name(rest))
                self.calls.append(Call(name))
                return [CallPiece(len(self.calls) - 1, self.calls[-1].name), *self._spoil()]
            rest = self._opened + rest
        elif self.calls and not self.calls[-1].complete:
            return self._spoil()
        elif self.calls and not rest.strip():
            return []  # space after a call
        return [self._say(rest)] if rest else []

    def _spoil(self) -> list[Piece]:
        return self._argue(self.calls[-1].spoiler())

    def _is_known(self, text: str) -> bool:
        return any(self._begins(text, name) for name in self._schemas.names)

    def _begins(self, text: str, name: str) -> bool:
        """Whether the text may be the beginning of a call of a tool, from its name on."""
        whole = self.format.name(name)
        number = self.format.number
        if number is not None and number.after_name:
            whole += number.before
        else:
            whole += self.format.between
        return whole.startswith(text) or text.startswith(whole)

    def _say(self, text: str) -> str:
        self.content += text
        return text

    def _content(self) -> list[Piece] | None:
        opening = self.format.opening
        at = self._text.find(opening)
        if at >= 0:
            name = self._text[at + len(opening) :]
            if self.tools is None or self._is_known(name):
                said = self._text[:at].rstrip()
                self._opened, self._text = self._text[len(said) : at] + opening, name
                self._read = self._name
                return [self._say(said)] if said else []
            # It is no call: what looked like one is text.
            said = self._text[: at + 1]
            self._text = self._text[at + 1 :]
            return [self._say(said)]
        # Held back: what may become an opening, and the white space before it.
        keep = overlap(self._text, opening)
        certain = self._text[: len(self._text) - keep].rstrip()
        if not certain:
            return None
        self._text = self._text[len(certain) :]
        return [self._say(certain)]

    def _name(self) -> list[Piece] | None:
        number = self.format.number
        if self.tools is not None and not self._is_known(self._text):
            size = len(self._opened) - len(self._opened.lstrip()) + 1
            said, rest = self._opened[:size], self._opened[size:]
            self._text, self._read = rest + self._text, None
            return [self._say(said)]
        if number is not None and number.after_name:
            stop = re.escape(number.before) + number.pattern + re.escape(self.format.between)
        else:
            p = self.format.parameters
            marks = [p.begin, self.format.end] if p else ["{"]
            stop = re.escape(self.format.between) or f"(?={'|'.join(map(re.escape, marks))})"
        found = re.search(stop, self._text)
        if found is None:
            return None
        name = self.format.read_name(self._text[: found.start()])
        self._text = self._text[found.end() :]
        self.calls.append(Call(name))
        self._written = 0
        if self.format.parameters is None:
            self._scan, self._read = JsonScan(), self._json
        else:
            self._read = self._parameter
        return [CallPiece(len(self.calls) - 1, name)]

    def _json(self) -> list[Piece] | None:
        assert self._scan is not None
        size = self._scan.feed(self._text)
        piece, self._text = self._text[:size], self._text[size:]
        if self._scan.done:
            self._read = self._end
        elif not piece:
            return None
        return self._argue(piece)

    def _parameter(self) -> list[Piece] | None:
        """One argument, or the end of the call."""
        p = self.format.parameters
        assert p is not None
        text = self._text.removeprefix(p.separator) if self._written else self._text
        if text.startswith(p.begin):
            stop = text.find(p.end, text.find(p.between) + len(p.between))
            if p.between not in text or stop < 0:
                return None
            key, _, value = text[len(p.begin) : stop].partition(p.between)
            self._text = text[stop + len(p.end) :]
            known = self._schemas.read(self.calls[-1].name, key, value)
            start = ", " if self._written else "{"
            self._written += 1
            written = json.dumps(known, ensure_ascii=False)
            return self._argue(f"{start}{json.dumps(key, ensure_ascii=False)}: {written}")
        begun = p.separator + p.begin if self._written else p.begin
        if len(self._text) < len(begun) and begun.startswith(self._text):
            return None
        if not self.format.end.startswith(self._text[: len(self.format.end)]):
            self._read = self._lost
            return []
        if len(self._text) < len(self.format.end):
            return None
        self._read = self._end
        return self._argue("}" if self._written else "{}")

    def _argue(self, piece: str) -> list[Piece]:
        self.calls[-1].arguments += piece
        return [CallPiece(len(self.calls) - 1, None, piece)] if piece else []

    def _end(self) -> list[Piece] | None:
        """What stands after the arguments: an id, the end, and then maybe another call."""
        text = self._text
        number = self.format.number
        if number is not None and not number.after_name:
            size = len(number.before) + number.size
            if len(text) < size:
                return None
            text = text[size:] if text.startswith(number.before) else text
        end = self.format.end
        if not text.startswith(end):
            if end.startswith(text):
                return None
            self._read = self._lost
            return []
        self._text = text[len(end) :]
        self.calls[-1].complete = True
        self._read = self._next
        return []

    def _next(self) -> list[Piece] | None:
        """After a call: another one, or the end of the section of calls, or text."""
        marks: list[tuple[str, Callable[[], list[Piece] | None] | None]] = [
            (self.format.separator + self.format.begin, self._name)
        ]
        marks += [(self.format.after, None)] if self.format.after else []
        for mark, then in marks:
            if self._text.startswith(mark):
                self._text, self._opened = self._text[len(mark) :], mark
                self._read = then
                return []
        if any(mark.startswith(self._text) for mark, _ in marks):
            return None
        self._read = None
        return []

    def _lost(self) -> list[Piece] | None:
        """The call is written otherwise than its format: it stays incomplete, and so does the
        rest, in which no end can be told."""
        piece, self._text = self._text, ""
        return self._argue(piece) or None


@dataclass(slots=True)
class JsonScan:
    """Finds where a JSON object ends, without understanding it.

    Attributes:
        opened: the brackets that are open.
        quoted: whether a string is open.
        escaped: whether a backslash was the last character of it.
        done: whether the object is at its end.
    """

    opened: list[str] = field(default_factory=list)
    quoted: bool = False
    escaped: bool = False
    done: bool = False

    def feed(self, text: str) -> int:
        """How many characters of the text belong to the object."""
        for place, character in enumerate(text):
            if self.quoted:
                if self.escaped:
                    self.escaped = False
                elif character == "\\":
                    self.escaped = True
                elif character == '"':
                    self.quoted = False
            elif character == '"':
                self.quoted = True
            elif character in "{[":
                self.opened.append(character)
            elif character in "}]":
                if self.opened:
                    self.opened.pop()
                if not self.opened:
                    self.done = True
                    return place + 1
        return len(text)


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with, less than all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
