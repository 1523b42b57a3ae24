"""The tokens that a constraint allows, step by step, and how an open reply is closed in time.

Near the budget's end a reply takes the shortest way to the end of its grammar.
"""

from __future__ import annotations

import bisect
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from t2agent.errors import ConfigError, GrammarError
from t2agent.models.decoding import end_tokens
from t2agent.models.lengths import Lengths, accepts, of_bytes
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
        active = []
        for place, row in enumerate(self._rows):
            if row is None or row.ended:
                continue
            active.append(place)
            row.fill(self._mask, place, self._limit - step, scores[place])
        if active:
            scores = scores.clone()
            mask = self._mask.to(scores.device)
            self._xgrammar.apply_token_bitmask_inplace(scores, mask, indices=active)
        return scores

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

    def accept(self, token: int, ends: frozenset[int]) -> None:
        """Go on by a token; one of the end ends the row."""
        self.ended = token in ends
        if self.ended or self._stuck:
            return
        self._stuck = not self._matcher.accept_token(token)
        if self._exact is not None and not self._stuck:
            self._stuck = not self._exact.accept_string(self._tokens.texts[token])
        if self._trigger and not self._stuck:
            self._tail = (self._tail + self._tokens.texts[token])[-len(self._trigger) :]

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
            if forced := _forced(matcher):
                found = self._spelled(tokens, forced)
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


_NO_JSON = b"zq~"  # what only a string, or free text, can go on with
_STRUCTURE = (b"}", b"]", b'"', b",")
_VALUES = (b"0", b"n", b"f", b"t")
_OUTSIDE = (
    (*_STRUCTURE, *_VALUES, b"[", b"{"),
    (*_STRUCTURE[:2], b",", *_VALUES, b'"', b"[", b"{"),
)
"""What may bring a value to its end, in two orders, of which the shorter way counts: a string may
be shorter than a number, and need not be."""
_BYTES = tuple(bytes([i]) for i in (*range(32, 127), 10, 9, 13, *range(127, 256)))
_STEPS = 400  # pieces after which the search for an end is given up


def free(matcher: Any) -> bool:
    """Whether a grammar's matcher is in free text, which may end anywhere."""
    return bool(matcher.is_completed()) and _in_text(matcher)


def ending(matcher: Any, marks: Sequence[bytes], tails: Sequence[bytes] = ()) -> bytes | None:
    """Text that completes what a grammar's matcher has read; b"" where it is complete.

    marks: texts, other than JSON's own, that end a part of it. tails: what may end its strings and
    numbers, from any place in them. None where no end was found.
    """
    if matcher.is_completed():
        return b""
    ways = (_ending(matcher.fork(), marks, tails, order) for order in _OUTSIDE)
    return min((way for way in ways if way is not None), key=len, default=None)


def _ending(
    matcher: Any, marks: Sequence[bytes], tails: Sequence[bytes], order: Sequence[bytes]
) -> bytes | None:
    text = bytearray()
    for step in range(_STEPS):
        if matcher.is_completed():
            return bytes(text)
        piece = _forced(matcher)
        if not piece or not matcher.accept_string(piece):
            whole = (one for one in tails if _ends_part(matcher, one, marks))
            if _in_text(matcher):
                # A mark may be text, too: it must lead out of it.
                ends = [one for one in (*marks, b'"') if _leads_out(matcher, one)]
                tried: Iterable[bytes] = chain(ends, whole, _turned(step))
            else:
                # A number that may end does, before its tails make it longer.
                tried = chain(marks, order[:2], (b",",), whole, order, _turned(step))
            piece = next((one for one in tried if matcher.accept_string(one)), b"")
        if not piece:
            return None
        text += piece
    return None


def _in_text(matcher: Any) -> bool:
    return accepts(matcher, _NO_JSON)


def _leads_out(matcher: Any, end: bytes) -> bool:
    return accepts(matcher, end, lambda: not _in_text(matcher))


def _ends_part(matcher: Any, tail: bytes, marks: Sequence[bytes]) -> bool:
    """Whether a string or number is whole after the tail: digits alone may lead on for ever."""

    def whole() -> bool:
        after = (b",", b"}", b"]", *marks)
        ended = tail.endswith(b'"') or matcher.is_completed()
        return ended or any(accepts(matcher, one) for one in after)

    return accepts(matcher, tail, whole)


def _forced(matcher: Any) -> bytes:
    try:
        forced: str = matcher.find_jump_forward_string()
    except UnicodeDecodeError:  # it ends within a character
        return b""
    return forced.encode()


def _turned(step: int) -> Iterator[bytes]:
    """All bytes, beginning with another one at each step, so that no loop is for ever."""
    start = step % 95
    yield from _BYTES[start:95]
    yield from _BYTES[:start]
    yield from _BYTES[95:]


class Speller:
    """Text as tokens: at each place the longest token that spells what comes next.

    keep: special tokens that show in the text.
    """

    def __init__(self, tokens: Tokens, keep: frozenset[int] = frozenset()) -> None:
        self._tokens = tokens
        self._kept = {tokens.texts[one]: one for one in keep if one < len(tokens.texts)}

    def first(self, text: bytes) -> Iterator[int]:
        """The tokens that the text may begin with, longest first."""
        for size in range(min(len(text), self._tokens.longest), 0, -1):
            piece = text[:size]
            found = self._kept.get(piece, self._tokens.ids.get(piece))
            if found is not None:
                yield found

    def count(self, text: bytes) -> int:
        """How many tokens the text takes."""
        size = 0
        while text:
            one = next(self.first(text), None)
            text = text[1 if one is None else len(self._tokens.texts[one]) :]
            size += 1
        return size


class Guard:
    """Tells the tokens that would complete a text, such as the mark that begins a call."""

    @classmethod
    def of(cls, tokens: Tokens, text: bytes) -> Guard:
        """That of a text; made once."""
        found: Guard | None = tokens.guards.get(text)
        if found is None:
            found = tokens.guards[text] = cls(tokens, text)
        return found

    def __init__(self, tokens: Tokens, text: bytes) -> None:
        self._text = text
        ordered = sorted((one, number) for number, one in enumerate(tokens.texts) if one)
        self._sorted = [one for one, _ in ordered]
        self._numbers = [number for _, number in ordered]
        self._whole = [number for one, number in ordered if text in one]

    def forbidden(self, before: bytes) -> list[int]:
        """Those after which ``before`` and the token hold the text."""
        found = list(self._whole)
        for size in range(1, len(self._text)):
            if before.endswith(self._text[:size]):
                rest = self._text[size:]
                start = bisect.bisect_left(self._sorted, rest)
                end = bisect.bisect_left(self._sorted, rest + b"\xff" * 8)
                found += self._numbers[start:end]
        return found


_CACHE_BYTES = 128 << 20
_GRAMMARS = 64  # compiled grammars that a model keeps
_STATES = 10_000_000  # times tokens: what a core compiles in less than two seconds


@dataclass(frozen=True, slots=True)
class Tokens:
    """A model's tokens as xgrammar sees them.

    Attributes:
        compiler: xgrammar's.
        texts: the bytes of each token.
        ids: bytes -> the token that spells them, special tokens left out.
        special: the tokens that do not show in a text.
        longest: the length of the longest of ``texts``.
        made_of: what changes with the tokenizer.
        guards: text -> what tells the tokens that would complete it; made once, over all tokens.
        grammars: those that were compiled.
        exact: those that were compiled for bytes.
    """

    compiler: Any
    texts: Sequence[bytes]
    ids: Mapping[bytes, int]
    special: frozenset[int]
    longest: int
    made_of: tuple[int, frozenset[int]]
    guards: dict[bytes, Any] = field(default_factory=dict)
    grammars: Compiled = field(default_factory=lambda: Compiled())
    exact: Compiled = field(default_factory=lambda: Compiled())

    @classmethod
    def of(cls, model: T2Model) -> Tokens:
        """Those of a model; made once."""
        made_of = _made_of(model)
        return model.attached(_tokens, lambda known: known.made_of == made_of)


def compiled(model: T2Model, constraint: Constraint) -> Any:
    """The constraint as xgrammar's CompiledGrammar, for a model's tokens.

    Raises GrammarError where it cannot follow the schema, ConfigError for a model without a token
    that ends replies.
    """
    if not end_tokens(model):
        raise ConfigError(
            f"{model.name} has no end-of-sequence token, and a constrained reply must end: set "
            "eos_token_id of its generation config"
        )
    tokens = Tokens.of(model)
    return _made(tokens.grammars, constraint.tag, tokens.compiler)


def compiled_exactly(model: T2Model, constraint: Constraint) -> Any:
    """What `Constraint.exact` holds, for bytes: with few tokens, many states are compiled at once.
    None where there is none; raises GrammarError as `compiled`."""
    if not constraint.exact:
        return None
    return _made(Tokens.of(model).exact, constraint.exact_tag, of_bytes())


def _made(known: Compiled, tag: str, compiler: Any) -> Any:
    try:
        return known.of(tag, compiler.compile_structural_tag)
    except (RuntimeError, ValueError, TypeError) as error:
        raise GrammarError(
            f"no grammar can be made of the schema: {' '.join(str(error).split())[:400]}. "
            "Give a JSON schema without what is named there"
        ) from error


def room(model: T2Model) -> float:
    """How large a grammar may be for a model's tokens, so that it is compiled within two seconds.

    A state takes up to 0.16 microseconds of a core for each token (measured for Qwen 2's 151,000);
    xgrammar works on all cores that the process may use, up to 8.
    """
    tokens: int = model.model.config.get_text_config().vocab_size
    own = getattr(os, "sched_getaffinity", None)  # not everywhere
    cores = len(own(0)) if own is not None else os.cpu_count() or 1
    return _STATES * min(cores, 8) / int(tokens)


class Compiled:
    """Compiled grammars by their text, the latest of them: each is compiled once, and others can
    be meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Future[Any]] = OrderedDict()

    def of(self, key: str, make: Callable[[str], Any]) -> Any:
        """That of a text. Raises what ``make`` raises."""
        with self._lock:
            found = self._found.get(key)
            mine = found is None
            if found is None:
                found = self._found[key] = Future()
            self._found.move_to_end(key)
            while len(self._found) > _GRAMMARS:
                self._found.popitem(last=False)
        if mine:
            try:
                found.set_result(make(key))
            except BaseException as error:  # noqa: BLE001 - others wait for it
                with self._lock:
                    self._found.pop(key, None)
                found.set_exception(error)
        return found.result()


def _made_of(model: T2Model) -> tuple[int, frozenset[int]]:
    return len(model.tokenizer), frozenset(end_tokens(model))


def _lengths(model: T2Model) -> Lengths:
    tokens = Tokens.of(model)
    return Lengths(tokens.texts, tokens.made_of[1])


def _tokens(model: T2Model) -> Tokens:
    import xgrammar  # takes a while: only where something is constrained

    made_of = _made_of(model)
    ends = made_of[1]
    size = model.model.config.get_text_config().vocab_size
    with model.tokenizer_lock:
        info = xgrammar.TokenizerInfo.from_huggingface(
            model.tokenizer, vocab_size=size, stop_token_ids=sorted(ends)
        )
        added = model.tokenizer.added_tokens_decoder.items()
        special = {number for number, token in added if token.special}
        special |= set(model.tokenizer.all_special_ids)
    texts: list[bytes] = list(info.decoded_vocab)
    ids: dict[bytes, int] = {}
    for number, text in enumerate(texts):
        if text and number not in special:
            ids.setdefault(text, number)
    compiler = xgrammar.GrammarCompiler(info, cache_limit_bytes=_CACHE_BYTES)
    longest = max(map(len, texts), default=0)
    return Tokens(compiler, texts, ids, frozenset(special | ends), longest, made_of)
