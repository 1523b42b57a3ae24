"""A batch whose rows come and go while it is decoded, each with a mixture of its own.

A reply that ends makes room at once, and another request takes its place (continuous batching, Yu
et al., Orca, OSDI 2022). A new request's prompt is read by itself; what several of one mixture
begin with is read once (`t2agent.models.reading`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import BatchFeature, LogitsProcessor

from t2agent.models import packed_steps
from t2agent.models.branching import branches
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import RowText, Stops, Watcher, reader
from t2agent.models.generate import Generation, asks_more, prompt_key, room, row_seeds
from t2agent.models.likelihood import position_ids
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import PackedLlama, Steps
from t2agent.models.plans import Resolved
from t2agent.models.prompt import Prompt, encode
from t2agent.models.reading import read_prompt
from t2agent.models.sampling import Logprobs, Sampler, repetition
from t2agent.models.slots import CachedSlots, Held, Slots
from t2agent.replies.constraint import Constraint

_MORE = 256  # tokens that slots have room for beyond what is needed, so that they seldom move


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a row is to answer; as the arguments of `generate`, and the mixture that answers."""

    prompt: Prompt | str
    options: GenerationOptions
    what: Resolved
    constraint: Constraint | None = None
    keep: frozenset[int] = frozenset()
    seed: int | None = None
    on_text: Callable[[str], None] | None = None
    cancel: threading.Event = field(default_factory=threading.Event)


class Row:
    """One reply in the making.

    Raises ContextLengthError where the prompt leaves no room, and what `encode` raises.
    """

    def __init__(self, model: T2Model, asked: Asked) -> None:
        options = asked.options
        self.asked = asked
        self.inputs: BatchFeature = encode(model, [asked.prompt])
        self.tokens: Tensor = self.inputs["input_ids"]
        self.start = int(self.tokens.shape[1])
        self.limit = min(options.max_tokens, *room(model, self.inputs))
        self.ended = False
        stops = Stops.of(model, options.stop)
        read = reader(model.tokenizer, asked.keep)
        hand_out = asked.on_text
        watched = hand_out is not None or stops.texts
        self._ends = stops.tokens
        self._watcher = Watcher(
            read,
            [RowText(read, stops.texts)] if watched else None,
            stops.tokens,
            [asked.cancel],
            None if hand_out is None else lambda _, piece: hand_out(piece),
            self.start,
        )
        self._logprobs = None if options.logprobs is None else Logprobs(1, options.logprobs)
        self._constrained: Constrained | None = None
        self._processors: list[LogitsProcessor] = [*repetition(options)]
        if self._logprobs is not None:
            self._processors.insert(0, self._logprobs)
        if asked.constraint is not None:
            self._constrained = Constrained(
                model,
                [asked.constraint],
                ends=stops.tokens,
                limit=self.limit,
                start=self.start,
                keep=asked.keep,
            )
            self._processors.append(self._constrained)
        if options.temperature > 0:
            [own] = row_seeds(options.seed, [prompt_key(asked.prompt)], 1)
            seeds = [own if asked.seed is None else asked.seed]
            sampler = Sampler(seeds, options, limit=self.limit, start=self.start)
            self._processors.append(sampler)

    @property
    def longest(self) -> int:
        """Tokens of the prompt and the longest reply."""
        return self.start + self.limit

    @property
    def guesses(self) -> bool:
        """Whether it can tell what may come next."""
        return self._constrained is not None and len(self._processors) == 1

    def guess(self) -> list[int]:
        """Tokens that may follow, fewer than there is room for."""
        if self._constrained is None:
            return []
        return self._constrained.guess(self.tokens)[: self._left - 1]

    def take(self, logits: Tensor, guessed: Sequence[int] = ()) -> None:
        """Go on by a token, and by those that were guessed as they would have been chosen.

        logits: (1 + guessed, vocabulary) after the last token, and after each that was guessed.
        """
        for place, own in enumerate(logits):
            scores = own[None].float()
            for process in self._processors:
                scores = process(self.tokens, scores)
            chosen = scores.argmax(-1)
            self.tokens = torch.cat([self.tokens, chosen[None]], dim=1)
            done = bool(self._watcher(self.tokens, scores).any())
            token = int(chosen)
            if done or token in self._ends or not self._left:
                self.ended = True
                return
            if place < len(guessed) and token != guessed[place]:
                return

    def cancelled(self) -> bool:
        """Whether nobody wants the rest; the row has ended then."""
        if not self.ended and self.asked.cancel.is_set():
            self._watcher(self.tokens, self.tokens)
            self.ended = True
        return self.ended

    def generation(self) -> Generation:
        """The reply, once it has ended."""
        tokens = self.tokens[0, self.start :].tolist()[: self._watcher.length(0)]
        return Generation(
            self._watcher.finish(0, tokens),
            tuple(tokens),
            self._watcher.reason(0, tokens, self.limit),
            self.start,
            None if self._logprobs is None else self._logprobs.of(0, tokens),
        )

    @property
    def _left(self) -> int:
        return self.longest - int(self.tokens.shape[1])


class Rows:
    """The replies that a model is at. One thread at a time uses them.

    quantized: decode by packed weights while there are few rows, as of `generate`.
    """

    def __init__(self, model: T2Model, *, quantized: bool = True) -> None:
        self._model = model
        self._quantized = quantized
        self._slots: Slots | None = None
        self._rows: list[Row | None] = []  # by their slots
        self._changed = False  # rows or mixtures are others than those that are adapted to
        self._adapting = ExitStack()

    def __len__(self) -> int:
        return sum(row is not None for row in self._rows)

    @staticmethod
    def takes(model: T2Model, length: int) -> bool:
        """Whether rows of so many tokens, prompt and reply, can come and go: with a mixture for
        each row, a cache of nothing but keys and values, and no wish of the checkpoint beyond the
        tokens that end a reply."""
        config = model.model.generation_config
        if model.model.config.is_encoder_decoder or not model.per_row or asks_more(config):
            return False
        return branches(model.model, length)

    @torch.no_grad()
    def join(self, row: Row) -> None:
        """Read a row's prompt, and begin its reply; it may have ended with its first token."""
        if row.cancelled():
            return
        logits, held = self._read(row)
        row.take(logits)
        if not row.ended:
            self._place(row, held)

    @torch.no_grad()
    def step(self) -> list[Row]:
        """Go on with all replies; those that have ended, and left."""
        for row in self._rows:
            if row is not None:
                row.cancelled()
        ended = self._leave()
        if len(self):
            self._adapt()
            self._go_on()
            ended += self._leave()
        if not len(self):
            self.close()
        return ended

    def close(self) -> None:
        """Leave the model as it was; the replies that are not whole are lost."""
        self._adapting.close()
        self._slots, self._rows, self._changed = None, [], False

    def _read(self, row: Row) -> tuple[Tensor, Held]:
        """The logits (1, vocabulary) after a prompt, and its keys and values."""
        with self._model.adapted(row.asked.what):
            logits, cache = read_prompt(self._model, row.inputs, row.asked.what)
        positions = position_ids(self._model.model, dict(row.inputs))
        return logits[0], Held.of(cache, None if positions is None else positions[..., 0, -1:])

    def _place(self, row: Row, held: Held) -> None:
        """Give a row a slot, making slots where none is free or the row is too long."""
        slots = self._slots
        free = [at for at, one in enumerate(self._rows) if one is None]
        longest = max(held.length, 0 if slots is None else slots.length)
        if slots is None or not free or held.length > slots.length or longest >= slots.total:
            self._move(len(self) + 1, held)
            slots, free = self._slots, [self._rows.index(None)]
        assert slots is not None
        slots.put(free[0], held)
        self._rows[free[0]] = row
        self._changed = True

    def _move(self, count: int, new: Held | None = None) -> None:
        """Other slots for the rows that are there, of which there are to be ``count``: as few and
        as short as will do for a while."""
        old, rows = self._slots, [row for row in self._rows if row is not None]
        kept = [] if old is None else self._kept(old)
        lengths = [held.length for held in (*kept, *([] if new is None else [new]))]
        size = 1 << (count - 1).bit_length()
        longest = max(lengths)
        packed = PackedLlama.of(self._model) if self._quantized else None
        # What packed weights cannot do is seen when they are adapted.
        self._slots = self._made(packed, size, longest, kept[0] if kept else new)
        self._slots.length = longest
        for at, held in enumerate(kept):
            self._slots.put(at, held)
        self._rows = [*rows, *[None] * (size - len(rows))]
        self._changed = True

    def _kept(self, slots: Slots) -> list[Held]:
        return [slots.take(at) for at, row in enumerate(self._rows) if row is not None]

    def _made(
        self, packed: PackedLlama | None, size: int, longest: int, like: Held | None
    ) -> Slots:
        assert like is not None
        total = longest + _MORE
        if packed is not None and size <= packed_steps.ROWS:
            return Steps(packed, [], size, total)
        return CachedSlots(self._model.model, like, size, total)

    def _adapt(self) -> None:
        """Adapt the model to the mixtures of its rows."""
        slots = self._slots
        assert slots is not None
        if len(self) * 2 < len(self._rows) or slots.length >= slots.total:
            self._move(len(self))
            slots = self._slots
        if not self._changed:
            return
        self._changed = False
        self._adapting.close()
        base = self._model.resolve(None)
        whats = [base if row is None else row.asked.what for row in self._rows]
        if any(what.experts for what in whats):
            one = whats[0] if len(whats) == 1 else whats
            self._adapting.enter_context(self._model.adapted(one))
        if isinstance(slots, Steps):
            packed = PackedLlama.of(self._model)
            assert packed is not None
            layers = packed.adapted(self._model)
            if layers is None:  # bases are of other sides: not by packed weights
                self._quantized = False
                self._move(len(self))
                self._adapt()
                return
            slots.layers = layers

    def _go_on(self) -> None:
        slots = self._slots
        assert slots is not None
        live = [(at, row) for at, row in enumerate(self._rows) if row is not None]
        alone = live[0][1] if len(self._rows) == 1 else None
        guessed: list[int] = []
        if alone is not None and alone.guesses:
            guessed = alone.guess()[: slots.total - slots.length - 1]
        last = torch.zeros(len(self._rows), 1 + len(guessed), dtype=torch.int64)
        last = last.to(self._model.device)
        for at, row in live:
            last[at, 0] = row.tokens[0, -1]
        if guessed:
            last[0, 1:] = last.new_tensor(guessed)
        logits = slots(last)
        for at, row in live:
            before = row.tokens.shape[1]
            row.take(logits[at], guessed)
            if guessed:  # of what was guessed wrongly nothing stays
                slots.length -= len(guessed) - (row.tokens.shape[1] - before - 1)

    def _leave(self) -> list[Row]:
        ended = [row for row in self._rows if row is not None and row.ended]
        if ended:
            self._rows = [None if row is None or row.ended else row for row in self._rows]
        return ended
