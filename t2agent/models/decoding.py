"""From tokens to text while they are generated: whole characters only, cut at stop strings.

What watches a generation sees each step: it ends rows, hands out their text and can be cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import StoppingCriteria

from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.models.prompt import turn_end
from t2agent.replies.parsing import overlap

Read = Callable[[Sequence[int]], str]
"""Tokens -> their text."""


def end_tokens(model: T2Model) -> tuple[int, ...]:
    """All tokens at which a generated answer ends: those of the generation config, or, where it
    names none, the tokenizer's own; empty where there is none either."""
    ends = getattr(model.model.generation_config, "eos_token_id", None)
    if not isinstance(ends, int):
        ends = ends or model.tokenizer.eos_token_id
    return (ends,) if isinstance(ends, int) else tuple(ends or ())


def end_token(model: T2Model) -> int:
    """The one of `end_tokens` that a reply is trained to end with: that with which the chat
    template ends an answer, else the tokenizer's own, else the first.

    Raises ConfigError where there is none.
    """
    ends = end_tokens(model)
    if not ends:
        raise ConfigError(
            f"{model.name} has no end-of-sequence token, so no reply of it has an end; set "
            "tokenizer.eos_token"
        )
    if written := turn_end(model):
        spelled = model.tokenizer.convert_ids_to_tokens(list(ends))
        for number, text in zip(ends, spelled, strict=True):
            if text and written.startswith(text):
                return number
    own = model.tokenizer.eos_token_id
    return int(own if own in ends else ends[0])


def reader(tokenizer: Any, keep: frozenset[int] = frozenset()) -> Read:
    """What tells the text of tokens: with its spaces as they are, and without special tokens, but
    those in ``keep``."""
    added = tokenizer.added_tokens_decoder.items() if keep else ()
    special = {number for number, token in added if token.special}
    dropped = (special | set(tokenizer.all_special_ids)) - keep

    def read(tokens: Sequence[int]) -> str:
        if keep:
            tokens = [token for token in tokens if token not in dropped]
        text: str = tokenizer.decode(
            list(tokens), skip_special_tokens=not keep, clean_up_tokenization_spaces=False
        )
        return text

    return read


class RowText:
    """The text of one answer, token by token, as ``read`` tells it (`reader`).

    A chunk that `push` or `finish` returns is never taken back: bytes of an unfinished character
    and text that may be the beginning of a stop string are held until more is known. The chunks
    together are `text`, which ends before the stop string that is complete first.
    """

    def __init__(self, read: Read, stops: Sequence[str]) -> None:
        self._read = read
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
        text = self._read(self._tokens[self._window :])
        if text.endswith("\ufffd"):  # bytes of a character of which more may come
            return ""
        new = text[len(self._known_text) :]
        self._window, self._known = self._known, len(self._tokens)
        self._known_text = self._read(self._tokens[self._window : self._known])
        return self._emit(new)

    def finish(self) -> str:
        """What is left when no more tokens come."""
        if self.stopped:
            return ""
        rest = self._read(self._tokens[self._window :])[len(self._known_text) :]
        new = self._emit(rest)
        if self.stopped:
            return new
        held, self._held = self._held, ""
        self._chunks.append(held)
        return new + held

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


OnText = Callable[[int, str], None]
Cancel = threading.Event | Sequence[threading.Event] | None
"""What ends answers early: one event for all, or one for each."""
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends an answer: tokens, and texts."""

    tokens: frozenset[int]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, model: T2Model, stop: Sequence[str]) -> Stops:
        """From the texts that are to end an answer of a model."""
        tokens = set(end_tokens(model))
        # Special tokens do not show in the text, so they are looked for as tokens.
        special = {
            token.content: number
            for number, token in (model.tokenizer.added_tokens_decoder.items() if stop else ())
            if token.special and token.content in stop
        }
        tokens.update(special.values())
        return cls(frozenset(tokens), tuple(text for text in stop if text not in special))


@dataclass
class Watcher(StoppingCriteria):
    """Sees each new token of each row.

    read: as of `reader`. texts: one for each row where the text is needed at each step, else None.
        ends: the tokens that end a row. cancels: one for each row, which ends it when it is set;
        empty for none. on_text: gets the pieces of the texts. start: the length of the sequence
        before the first token of an answer.
    """

    read: Read
    texts: list[RowText] | None
    ends: frozenset[int]
    cancels: Sequence[threading.Event]
    on_text: OnText | None
    start: int

    def __post_init__(self) -> None:
        self._lengths = [0] * len(self.texts or ())
        self._done = [False] * len(self.texts or ())
        self._cancelled: dict[int, int] = {}  # row -> its tokens when that was seen

    def __call__(self, input_ids: Tensor, scores: Tensor, **_kwargs: Any) -> Tensor:  # noqa: ARG002
        """Which rows (rows,) are done after the last token of ``input_ids`` (rows, length)."""
        if self.texts is not None:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                if not self._done[row] and row not in self._cancelled:
                    self._see(row, token, self.texts[row])
        self.cancelled(input_ids.shape[1])
        if self.texts is None and not self._cancelled:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        done = self._done or [False] * len(input_ids)
        ended = [one or row in self._cancelled for row, one in enumerate(done)]
        return torch.tensor(ended, device=input_ids.device)

    def cancelled(self, length: int) -> bool:
        """Whether a row is cancelled; one that was not before ends here, where sequences have so
        many tokens."""
        for row, cancel in enumerate(self.cancels):
            if row not in self._cancelled and cancel.is_set():
                self._cancelled[row] = length - self.start
        return bool(self._cancelled)

    def length(self, row: int) -> int | None:
        """The tokens of the row, where it is known; more may be padding."""
        return self._cancelled.get(row) if self.texts is None else self._lengths[row]

    def reason(self, row: int, tokens: list[int], limit: int) -> FinishReason:
        """Why the row ended."""
        stopped = self.texts is not None and self.texts[row].stopped
        if stopped or (tokens and tokens[-1] in self.ends):
            return "stop"
        return "cancelled" if row in self._cancelled and len(tokens) < limit else "length"

    def finish(self, row: int, tokens: list[int]) -> str:
        """The text of the row, of which the last piece is handed out now."""
        if self.texts is None:
            return self.read(tokens)
        if not self._done[row]:
            self._end(row, self.texts[row])
        return self.texts[row].text

    def _see(self, row: int, token: int, text: RowText) -> None:
        self._lengths[row] += 1
        if token in self.ends:
            self._end(row, text)
            return
        self._hand_out(row, text.push(token))
        self._done[row] = text.stopped

    def _end(self, row: int, text: RowText) -> None:
        self._done[row] = True
        self._hand_out(row, text.finish())

    def _hand_out(self, row: int, piece: str) -> None:
        if piece and self.on_text is not None:
            self.on_text(row, piece)
