"""Which value a JSON object is about to write, however far it has come."""

from __future__ import annotations

from t2agent.replies.parsing import JsonScan


class OpenValue:
    """The value that a JSON object, given piece by piece, has come to.

    Attributes:
        text: what of a string or a number is written, as JSON writes it; b"" where a value may
            begin; None where none may, and within names.
        before: the strings and numbers that have ended, of no array, in their order.
    """

    def __init__(self) -> None:
        self.text: bytes | None = None
        self.before: tuple[bytes, ...] = ()
        self._scan = JsonScan()
        self._named = False  # whether a string is a name

    @property
    def quoted(self) -> bool:
        """Whether it is a string."""
        return self._scan.quoted and not self._named

    @property
    def listed(self) -> bool:
        """Whether it is one of an array."""
        return self._scan.opened[-1:] == ["["]

    @property
    def ended(self) -> bool:
        """Whether the object is whole; what follows is not read."""
        return self._scan.done

    def read(self, text: bytes) -> None:
        """Go on by a text."""
        for character in text.decode("latin-1"):  # one for each byte
            if not self.ended and (self._scan.opened or character == "{"):
                self._read(character)

    def _read(self, character: str) -> None:
        string = self._scan.quoted
        if not string and character in "}],":
            self._end(self.text or None)
        self._scan.feed(character)
        if string and not self._scan.quoted:
            self._end(self.text)
        elif self._scan.quoted and not string:
            self.text = None if self._named else b""
        elif not string and character in "{[,":
            self._named = not self.listed
            self.text = None if self._named else b""
        elif not string and character == ":":
            self._named, self.text = False, b""
        elif self.text is not None and (string or not character.isspace()):
            self.text += character.encode("latin-1")

    def _end(self, value: bytes | None) -> None:
        """A value may have ended: None is none."""
        if value is not None and not self.listed:
            self.before += (value,)
        self.text = None
