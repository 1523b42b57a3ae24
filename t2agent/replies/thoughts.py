"""The thoughts that a reply begins with, told from what it says."""

from __future__ import annotations

from t2agent.replies.parsing import overlap

OPENING, CLOSING = "<think>", "</think>"
"""What most templates that think put around thoughts."""


class Thoughts:
    """Splits the text of a reply, piece by piece, into thoughts and what follows. White space
    around the marks belongs to neither.

    closing: what ends the thoughts that the prompt has begun, as
        `t2agent.models.prompt.open_thoughts` tells; None where it has not: then a reply that begins
        with `OPENING` thinks up to `CLOSING`.
    """

    def __init__(self, closing: str | None = None) -> None:
        self._closing = closing or CLOSING
        self._inside = closing is not None
        self._looking = closing is None  # whether thoughts may still begin
        self._fresh = self._inside  # after a mark: white space is left out
        self._held = ""

    def push(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """What is certain now and was not before: of the thoughts, and of what follows.

        last: no more text comes.
        """
        self._held += text
        if self._looking:
            begun = self._held.lstrip()
            if OPENING.startswith(begun) and begun != OPENING and not last:
                return "", ""
            self._looking = False
            if begun.startswith(OPENING):
                self._inside = self._fresh = True
                self._held = begun.removeprefix(OPENING)
        if not self._inside:
            return "", self._handed(self._held, "")
        thoughts, found, rest = self._held.partition(self._closing)
        if found:
            told = self._handed(thoughts.rstrip(), rest)
            self._inside, self._fresh = False, True
            return told, self._handed(self._held, "")
        certain = (
            self._held
            if last
            else self._held[: len(self._held) - overlap(self._held, self._closing)]
        )
        certain = certain.rstrip()
        return self._handed(certain, "" if last else self._held[len(certain) :]), ""

    def _handed(self, text: str, held: str) -> str:
        """The text, where it is handed out and this is held."""
        self._held = held
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        return text
