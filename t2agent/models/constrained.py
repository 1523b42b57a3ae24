"""The tokens that a constraint allows, step by step, and how an open reply is closed in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from t2agent.models.closing import Guard, Speller, ending, free
from t2agent.models.model import T2Model
from t2agent.models.tokens import Tokens, compiled
from t2agent.replies.constraint import Constraint

_BITS = 32  # of a word of the mask
_PAUSE = 8  # tokens after a search for an end that found none, which takes long
_SPARE = 2  # tokens: the one that ends the reply, and one for text that was not foreseen


class Constrained(LogitsProcessor):
    """Leaves the tokens possible that each row's constraint allows.

    constraints: one for each row, None for a free one. limit: tokens an answer can have. start:
    the length of the sequence before the first of them. keep: special tokens that show in the
    text; no others are allowed where a grammar holds, since the text would lack them.

    Near the limit a row is led to its end: strings, objects and calls that are open are closed,
    and no call is begun that could not be.
    """

    def __init__(
        self,
        model: T2Model,
        constraints: Sequence[Constraint | None],
        *,
        ends: frozenset[int],
        limit: int,
        start: int,
        keep: frozenset[int] = frozenset(),
    ) -> None:
        import xgrammar

        self._xgrammar = xgrammar
        size = model.model.config.get_text_config().vocab_size
        self._rows: list[_Row | None] = [
            None if one is None else _Row(model, one, keep, size) for one in constraints
        ]
        self._ends, self._limit, self._start = ends, limit, start
        self._mask: Tensor = xgrammar.allocate_token_bitmask(len(constraints), size)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) with -inf where a row's constraint forbids a token."""
        step = input_ids.shape[1] - self._start
        last = input_ids[:, -1].tolist() if step else []
        active = []
        for place, row in enumerate(self._rows):
            if row is None or row.ended:
                continue
            if last:
                row.accept(last[place], self._ends)
            if row.ended:
                continue
            active.append(place)
            row.fill(self._mask, place, self._limit - step)
        if active:
            scores = scores.clone()
            mask = self._mask.to(scores.device)
            self._xgrammar.apply_token_bitmask_inplace(scores, mask, indices=active)
        return scores


class _Row:
    """One row's place in its grammar."""

    def __init__(
        self, model: T2Model, constraint: Constraint, keep: frozenset[int], size: int
    ) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled(model, constraint))
        self._tokens = Tokens.of(model)
        self._speller = Speller(self._tokens, keep)
        self._marks = tuple(mark.encode() for mark in constraint.marks)
        self._trigger = constraint.trigger.encode()
        self._tail = b""
        # One more token can make so much more necessary.
        self._more = self._speller.count(constraint.part.encode()) + _SPARE
        self._unlooked = 0
        self._plan = b""  # what is left of the text that ends the row
        self._ends = _words(self._tokens.made_of[1], size)
        self._shown = ~_words((self._tokens.special - self._tokens.made_of[1]) - keep, size)
        self.ended = False

    def accept(self, token: int, ends: frozenset[int]) -> None:
        """Go on by a token; one of the end, or one that was not allowed, ends the row."""
        self.ended = token in ends or not self._matcher.accept_token(token)
        if self._trigger and not self.ended:
            self._tail = (self._tail + self._tokens.texts[token])[-len(self._trigger) :]

    def fill(self, mask: Tensor, place: int, left: int) -> None:
        """Allow the tokens that may follow, ``left`` of which are left."""
        self._matcher.fill_next_token_bitmask(mask, place)
        if not free(self._matcher):
            mask[place] &= self._shown
        if self._plan:
            # An end is gone to without looking again: half of a mark may be text, too.
            self._force(mask, place, self._plan)
            return
        if self._unlooked:
            self._unlooked -= 1
            return
        end = ending(self._matcher, self._marks)
        if end is None:
            self._unlooked = _PAUSE
            return
        spare = left - self._speller.count(end) - self._more
        if spare > 0:
            # It takes some steps before the room can be used up.
            self._unlooked = spare // (1 + self._more)
        elif end:
            self._force(mask, place, end)
        elif not free(self._matcher):
            mask[place] &= self._ends
        elif self._trigger:
            guard = Guard.of(self._tokens, self._trigger)
            mask[place] &= ~_words(guard.forbidden(self._tail), mask.shape[1] * _BITS)

    def _force(self, mask: Tensor, place: int, end: bytes) -> None:
        """Allow only the first token of the text, which is to be followed to its end."""
        self._plan = b""
        for token in self._speller.first(end):
            if int(mask[place, token // _BITS]) >> (token % _BITS) & 1:
                mask[place] = _words((token,), mask.shape[1] * _BITS)
                self._plan = end[len(self._tokens.texts[token]) :]
                return


def _words(tokens: Iterable[int], size: int) -> Tensor:
    """The mask that allows these tokens alone."""
    words = [0] * -(-size // _BITS)
    for token in tokens:
        if token < size:
            words[token // _BITS] |= 1 << (token % _BITS)
    signed = [word - (1 << _BITS) if word >> (_BITS - 1) else word for word in words]
    return torch.tensor(signed, dtype=torch.int32)
