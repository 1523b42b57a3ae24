"""Which value a JSON object is about to write, however far it has come."""

from __future__ import annotations

_BRACKETS = {b"{": b"}", b"[": b"]"}


class OpenValue:
    """The value that a JSON object, given piece by piece, has come to.

    Attributes:
        text: what of a string or a number is written, as JSON writes it; b"" where a value may
            begin; None where none may, and within names.
        quoted: whether it is a string.
        before: the strings and numbers that have ended, of no array, in their order.
        ended: whether the object is whole; what follows is not read.
    """

    def __init__(self) -> None:
        self.text: bytes | None = None
        self.quoted = self.ended = False
        self.before: tuple[bytes, ...] = ()
        self._open = b""  # the brackets
        self._named = False  # whether a string is a name
        self._string = self._escaped = False

    def read(self, text: bytes) -> None:
        """Go on by a text."""
        for at in range(len(text)):
            if self.ended:
                return
            self._read(text[at : at + 1])

    def _read(self, byte: bytes) -> None:
        if self._string:
            ends = byte == b'"' and not self._escaped
            self._escaped = byte == b"\\" and not self._escaped
            if ends:
                self._end()
                self._string = self.quoted = False
            elif self.text is not None:
                self.text += byte
        elif not self._open and byte != b"{":
            return
        elif byte == b'"':
            self._string, self.quoted = True, not self._named
            self.text = None if self._named else b""
        elif byte in _BRACKETS:
            self._open += byte
            self._begin()
        elif byte in _BRACKETS.values():
            self._end()
            self._open = self._open[:-1]
            self.ended = not self._open
        elif byte == b":":
            self._named, self.text = False, b""
        elif byte == b",":
            self._end()
            self._begin()
        elif self.text is not None and not byte.isspace():
            self.text += byte

    @property
    def listed(self) -> bool:
        """Whether it is one of an array."""
        return self._open.endswith(b"[")

    def _end(self) -> None:
        """A value may have ended."""
        if self.text is not None and (self.text or self.quoted) and not self.listed:
            self.before += (self.text,)
        self.text = None

    def _begin(self) -> None:
        """A member of an object or an array may begin."""
        self._named = self._open.endswith(b"{")
        self.text = None if self._named else b""
