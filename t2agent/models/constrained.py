"""The tokens that a constraint allows, step by step, and how an open reply is closed in time.

Near the budget's end a reply takes the shortest way to the end of its grammar.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from t2agent.models.call_weights import CallWeights
from t2agent.models.closing import Guard, Speller, ending, forced, free
from t2agent.models.compiling import Tokens, compiled, compiled_exactly
from t2agent.models.grounding import Copying, Grounding
from t2agent.models.lengths import Lengths, accepts
from t2agent.models.model import T2Model
from t2agent.replies.constraint import Constraint

_BITS = 32  # of a word of the mask
_CONTEXT = 3  # tokens before a text that say how it is tokenised
_PAUSE = 8  # tokens after a search for an end that found none, which takes long
_GUESS = 16  # tokens that are guessed at once
_TRUST = 3  # of those that stood before, at first: a pass of four costs little more than one of one
_SPARE = 2  # tokens: the one that ends the reply, and one for text that was not foreseen
_TRIED = 8  # of the likeliest tokens, near the limit: whether a reply can still be ended after them


class Constrained(LogitsProcessor):
    """Leaves the tokens possible that each row's constraint allows.

    constraints: one for each row, None for a free one. limit: tokens an answer can have. start:
    the length of the sequence before the first of them. keep: special tokens that show in the
    text; no others are allowed where a grammar holds, since the text would lack them.

    Near the limit only tokens are left after which what is open (strings, objects, calls) can
    still be closed; where none of the likeliest is such a token, the row is led to its end.
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
        self._read = 0  # tokens of each row that its grammar has gone on by
        self._mask: Tensor = xgrammar.allocate_token_bitmask(len(constraints), size)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) with -inf where a row's constraint forbids a token."""
        step = input_ids.shape[1] - self._start
        self._go_on(input_ids, step)
        rows = enumerate(self._rows)
        active = {place: row for place, row in rows if row is not None and not row.ended}
        for place, row in active.items():
            row.fill(self._mask, place, self._limit - step, scores[place])
        if active:
            scores = scores.clone()
            mask = self._mask.to(scores.device)
            self._xgrammar.apply_token_bitmask_inplace(scores, mask, indices=list(active))
        for place, row in active.items():
            row.weigh(scores[place])
        return scores

    @property
    def free(self) -> list[bool]:
        """Which rows, as far as they were last asked for, are in free text."""
        return [row is None or row.free for row in self._rows]

    def branch(self, sources: Sequence[int]) -> None:
        """Go on with these of the rows; some may come several times."""
        rows = [self._rows[at] for at in sources]
        self._rows = [
            row and (row.fork() if row in rows[:at] else row) for at, row in enumerate(rows)
        ]
        if len(rows) != len(self._mask):
            self._mask = self._mask.new_empty(len(rows), self._mask.shape[1])

    def guess(self, input_ids: Tensor) -> list[int]:
        """Tokens that may follow the only row's (1, length), all allowed by its grammar: where it
        leaves one text that text, else what followed the same tokens before, such as in the prompt.
        None where the row is free text."""
        self._go_on(input_ids, input_ids.shape[1] - self._start)
        [row] = self._rows
        return [] if row is None or row.ended else row.guess(input_ids[0].tolist())

    def _go_on(self, input_ids: Tensor, step: int) -> None:
        if step == self._read:
            return
        self._read = step
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if row is not None and not row.ended:
                row.accept(token, self._ends)


class _Row:
    """One row's place in its grammar."""

    def __init__(
        self, model: T2Model, constraint: Constraint, keep: frozenset[int], size: int
    ) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled(model, constraint))
        self._tokens = Tokens.of(model)
        self._tokenize = partial(_tokenized, model)
        exact = compiled_exactly(model, constraint)
        if exact is None:
            self._exact = None
        else:
            self._exact, self._lengths = xgrammar.GrammarMatcher(exact), model.attached(_lengths)
        self._speller = Speller(self._tokens, keep)
        self._marks = tuple(mark.encode() for mark in constraint.marks)
        self._tails = tuple(tail.encode() for tail in constraint.tails)
        self._trigger = constraint.trigger.encode()
        self._tail = b""
        self._calls = CallWeights(self._tokens, self._speller, constraint)
        self._grounding: Grounding | Copying | None = None
        if constraint.values:
            self._grounding = Copying(
                self._tokens, self._speller, constraint.values, constraint.grounding
            )
        elif constraint.grounding:
            names = [name.encode() for name in constraint.names]
            self._grounding = Grounding(
                self._tokens, self._speller, names, constraint.said, constraint.grounding
            )
        # One more token can make so much more necessary: what it does is looked at near the limit.
        self._more = self._speller.count(constraint.part.encode()) + _SPARE
        self._call: float | None = None  # tokens that a call takes which free text begins
        self._unlooked = 0
        self._plan = b""  # what is left of the text that ends the row
        self._ends = _words(self._tokens.made_of[1], size)
        self._shown = ~_words((self._tokens.special - self._tokens.made_of[1]) - keep, size)
        self._guessed: list[int] = []  # the last time, after so many tokens
        self._known = 0
        self._trust = _TRUST  # tokens that are taken from what stood before
        self._stuck = False  # whether the grammar cannot go on: only an end may follow
        self.ended = False

    @property
    def free(self) -> bool:
        """Whether it is in free text, which may end anywhere."""
        return not self._stuck and free(self._matcher)

    def fork(self) -> _Row:
        """A row that goes on from here by itself."""
        new = copy.copy(self)
        new._matcher, new._calls = self._matcher.fork(), copy.copy(self._calls)
        if self._grounding is not None:
            new._grounding = self._grounding.fork()
        if self._exact is not None:
            new._exact = self._exact.fork()
        return new

    def accept(self, token: int, ends: frozenset[int]) -> None:
        """Go on by a token; one of the end ends the row."""
        self.ended = token in ends
        self._calls.accept(token)
        if self._grounding is not None:
            self._grounding.accept(token)
        if self.ended or self._stuck:
            return
        self._stuck = not self._matcher.accept_token(token)
        if self._exact is not None and not self._stuck:
            self._stuck = not self._exact.accept_string(self._tokens.texts[token])
        if self._trigger and not self._stuck:
            self._tail = (self._tail + self._tokens.texts[token])[-len(self._trigger) :]

    def weigh(self, scores: Tensor) -> None:
        """Take from the scores (vocabulary,) of the tokens what they lose."""
        if not self._stuck:
            self._calls.weigh(scores, self._matcher)
            if self._grounding is not None:
                self._grounding.weigh(scores)

    def fill(self, mask: Tensor, place: int, left: int, scores: Tensor) -> None:
        """Allow the tokens that may follow, ``left`` of which are left. scores: (vocabulary,).

        Where none can, the row is to end: what it is then fits no schema, and is told by its check.
        """
        if not self._stuck:
            self._fill(mask, place, left, scores)
            self._stuck = not bool(mask[place].any())
        if self._stuck:
            mask[place] = self._ends

    def guess(self, tokens: list[int]) -> list[int]:
        """Tokens that may follow, as of `Constrained.guess`."""
        matcher, size = self._matcher, len(tokens)
        if self._stuck or self._plan or free(matcher):
            return []
        right = tokens[self._known :][: len(self._guessed)] == self._guessed
        self._trust = min(2 * self._trust, _GUESS) if right and self._guessed else _TRUST
        tokens, end = list(tokens), size + _GUESS
        while (known := len(tokens)) < end:
            if text := forced(matcher):
                found = self._spelled(tokens, text)
            else:
                end = min(end, known + self._trust)
                found = looked_up(tokens, end - known)
            for token in found:
                if token in self._tokens.special or not matcher.accept_token(token):
                    break
                tokens.append(token)
            if len(tokens) == known:
                break
        matcher.rollback(len(tokens) - size)
        self._guessed, self._known = tokens[size:], size
        return self._guessed

    def _spelled(self, tokens: Sequence[int], text: bytes) -> list[int]:
        """The tokens of a text as the tokenizer makes them after those."""
        before = list(tokens[-_CONTEXT:])
        whole = b"".join(self._tokens.texts[one] for one in before) + text
        try:
            found = self._tokenize(whole.decode())
        except UnicodeDecodeError:
            return []
        same = found[: len(before)] == before
        return found[len(before) :] if same else self._tokenize(text.decode())

    def _fill(self, mask: Tensor, place: int, left: int, scores: Tensor) -> None:
        self._matcher.fill_next_token_bitmask(mask, place)
        if not free(self._matcher):
            mask[place] &= self._shown
        if self._exact is not None:
            self._lengths.hold(mask[place], self._matcher, self._exact)
        if self._plan:
            # An end is gone to without looking again: half of a mark may be text, too.
            self._force(mask, place, self._plan)
            return
        if self._unlooked:
            self._unlooked -= 1
            return
        end = ending(self._exact or self._matcher, self._marks, self._tails)
        if end is None:
            self._unlooked = _PAUSE
            return
        spare = left - self._speller.count(end) - self._more
        if spare > 0:
            # It takes some steps before the room can be used up.
            self._unlooked = spare // (1 + self._more)
        elif free(self._matcher):
            if self._trigger and not self._room_for_a_call(left):
                guard = Guard.of(self._tokens, self._trigger)
                mask[place] &= ~_words(guard.forbidden(self._tail), mask.shape[1] * _BITS)
        elif fitting := self._fitting(mask[place], left - 1, scores):
            mask[place] = _words(fitting, mask.shape[1] * _BITS)
        elif end:
            self._force(mask, place, end)
        else:
            mask[place] &= self._ends

    def _fitting(self, words: Tensor, left: int, scores: Tensor) -> list[int]:
        """Of the likeliest tokens that a mask allows, those after which ``left`` suffice."""
        bits = (words[:, None] >> torch.arange(_BITS)).bitwise_and_(1).flatten()[: len(scores)]
        best = scores.cpu().masked_fill(bits == 0, -torch.inf).topk(min(_TRIED, len(scores)))
        likely = best.indices[best.values > -torch.inf].tolist()
        return [one for one in likely if self._fits(one, left)]

    def _fits(self, token: int, left: int) -> bool:
        matcher = self._exact or self._matcher
        return token in self._tokens.made_of[1] or accepts(
            matcher, self._tokens.texts[token], lambda: self._to_end(matcher) <= left
        )

    def _to_end(self, matcher: Any) -> float:
        """Tokens that a matcher's reply needs to end; infinite where no end is found."""
        end = ending(matcher, self._marks, self._tails)
        return math.inf if end is None else self._speller.count(end) + _SPARE

    def _room_for_a_call(self, left: int) -> bool:
        """Whether free text may begin a call, by so many tokens."""
        if self._call is None:
            self._call = math.inf
            matcher = (self._exact or self._matcher).fork()
            if matcher.accept_string(self._trigger):
                self._call = self._speller.count(self._trigger) + self._to_end(matcher)
        return self._call <= left

    def _force(self, mask: Tensor, place: int, end: bytes) -> None:
        """Allow only the first token of the text, which is to be followed to its end."""
        self._plan = b""
        for token in self._speller.first(end):
            if int(mask[place, token // _BITS]) >> (token % _BITS) & 1:
                mask[place] = _words((token,), mask.shape[1] * _BITS)
                self._plan = end[len(self._tokens.texts[token]) :]
                return


def looked_up(tokens: Sequence[int], most: int) -> list[int]:
    """What followed the last three tokens where they stood before (or two, or one), the latest
    first; up to ``most`` tokens. Saxena, Prompt Lookup Decoding (2023)."""
    for size in (3, 2, 1):
        key = tokens[-size:]
        for start in range(len(tokens) - size - 1, -1, -1):
            if tokens[start] == key[0] and tokens[start : start + size] == key:
                return list(tokens[start + size : start + size + most])
    return []


def _tokenized(model: T2Model, text: str) -> list[int]:
    with model.tokenizer_lock:
        found: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _words(tokens: Iterable[int], size: int) -> Tensor:
    """The mask that allows these tokens alone."""
    words = [0] * -(-size // _BITS)
    for token in tokens:
        if token < size:
            words[token // _BITS] |= 1 << (token % _BITS)
    signed = [word - (1 << _BITS) if word >> (_BITS - 1) else word for word in words]
    return torch.tensor(signed, dtype=torch.int32)


def _lengths(model: T2Model) -> Lengths:
    tokens = Tokens.of(model)
    return Lengths(tokens.texts, tokens.made_of[1])
