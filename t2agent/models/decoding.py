"""From tokens to text while they are generated: whole characters only, cut at stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2agent.models.model import T2Model
from t2agent.replies.overlap import overlap


def end_tokens(model: T2Model) -> frozenset[int]:
    """The tokens that end an answer."""
    ends = model.model.generation_config.eos_token_id
    if ends is None:
        ends = model.tokenizer.eos_token_id
    return frozenset({ends} if isinstance(ends, int) else ends or ())


def hidden(tokenizer: Any, keep: frozenset[int] = frozenset()) -> frozenset[int]:
    """The tokens that do not show in a text: special ones, but those in ``keep``."""
    added = tokenizer.added_tokens_decoder.items()
    special = {number for number, token in added if token.special}
    return frozenset((special | set(tokenizer.all_special_ids)) - keep)


def decode(tokenizer: Any, tokens: Sequence[int], dropped: frozenset[int] | None = None) -> str:
    """The text of tokens, with its spaces as they are and without special tokens, or without the
    tokens in ``dropped``."""
    if dropped is not None:
        tokens = [token for token in tokens if token not in dropped]
    text: str = tokenizer.decode(
        list(tokens),
        skip_special_tokens=dropped is None,
        clean_up_tokenization_spaces=False,
    )
    return text


class RowText:
    """The text of one answer, token by token.

    A chunk that `push` or `finish` returns is never taken back: bytes of an unfinished character
    and text that may be the beginning of a stop string are held until more is known. The chunks
    together are `text`, which ends before the stop string that is complete first. ``dropped``: as
    of `decode`.
    """

    def __init__(
        self, tokenizer: Any, stops: Sequence[str], dropped: frozenset[int] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._dropped = dropped
        self._stops = stops
        self._tokens: list[int] = []
        # A token's text can depend on the one before (a space at a word's start), so a window of
        # tokens is decoded with and without the new ones. Its first part is text already.
        self._window, self._known = 0, 0
        self._known_text = ""
        self._held = ""
        self._chunks: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All that has been returned."""
        return "".join(self._chunks)

    def push(self, token: int) -> str:
        """The text that is certain now and was not before; "" for none."""
        self._tokens.append(token)
        text = self._decode(self._tokens[self._window :])
        if text.endswith("\ufffd"):  # bytes of a character of which more may come
            return ""
        new = text[len(self._known_text) :]
        self._window, self._known = self._known, len(self._tokens)
        self._known_text = self._decode(self._tokens[self._window : self._known])
        return self._emit(new)

    def finish(self) -> str:
        """What is left when no more tokens come."""
        if self.stopped:
            return ""
        rest = self._decode(self._tokens[self._window :])[len(self._known_text) :]
        new = self._emit(rest)
        if self.stopped:
            return new
        held, self._held = self._held, ""
        self._chunks.append(held)
        return new + held

    def _decode(self, tokens: Sequence[int]) -> str:
        return decode(self._tokenizer, tokens, self._dropped)

    def _emit(self, new: str) -> str:
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The one that is complete first, so that the size of tokens does not matter.
            self.stopped = True
            certain, self._held = text[: min(found)[1]], ""
        else:
            keep = max((overlap(text, stop) for stop in self._stops), default=0)
            certain, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self._chunks.append(certain)
        return certain
