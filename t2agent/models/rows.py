"""A batch whose rows come and go while it is decoded, each with a mixture of its own.

A reply that ends makes room at once, and another request takes its place (continuous batching, Yu
et al., Orca, OSDI 2022). What several prompts of one mixture begin with is read once
(`t2agent.models.reading`). In single precision the short prompts of requests that begin together
are read in one pass; in half precision each by itself, since what a pass over several rounds away
would make a reply depend on its company.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import BatchFeature, LogitsProcessor

from t2agent.models import packed_steps
from t2agent.models.beams import beams
from t2agent.models.branching import branches
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import RowText, Stops, Watcher, end_tokens, reader
from t2agent.models.generate import Generation, asks_more, prompt_key, room, row_seeds
from t2agent.models.likelihood import position_ids
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_llama import PackedLlama
from t2agent.models.packed_products import Adapted
from t2agent.models.packed_steps import Steps, packed_weights
from t2agent.models.plans import Key, Resolved
from t2agent.models.prefixes import piece_ends
from t2agent.models.prompt import Prompt, encode
from t2agent.models.reading import in_pieces, read_prompt
from t2agent.models.sampling import Logprobs, Sampler, TokenLogprob, repetition
from t2agent.models.slots import CachedSlots, Held, Slots
from t2agent.replies.constraint import Constraint

_MORE = 64  # tokens that slots have room for beyond what is needed, so that they seldom move
_TOGETHER = 1024  # tokens of prompts that are read in one pass, so that running replies go on


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
    """One reply in the making. inputs: the prompt where it is encoded already.

    Raises ContextLengthError where the prompt leaves no room, and what `encode` raises.
    """

    def __init__(self, model: T2Model, asked: Asked, inputs: BatchFeature | None = None) -> None:
        options = asked.options
        self.asked = asked
        self.inputs = encode(model, [asked.prompt]) if inputs is None else inputs
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
    def logprobs(self) -> Sequence[TokenLogprob]:
        """Those of the tokens so far, but for the latest; the list grows."""
        return () if self._logprobs is None else self._logprobs.so_far(0)

    @property
    def searched(self) -> bool:
        """Whether several beginnings of it are written at once, which runs by itself."""
        return beams(self.asked.options, self.asked.constraint) > 1

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
        if not self.ended and self._watcher.cancelled(self.tokens.shape[1]):
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
        self._layers: dict[Key, list[Adapted]] = {}  # packed, of the mixtures of the rows

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
    def join(self, *rows: Row) -> dict[Row, BaseException]:
        """Begin these replies, of which some may end with their first token; those that failed, and
        why."""
        try:
            read = self._read(rows)
        except BaseException as error:  # noqa: BLE001 - handed to whom it concerns
            if len(rows) == 1:
                return {rows[0]: error}
            return {row: why for one in rows for row, why in self.join(one).items()}
        failed: dict[Row, BaseException] = {}
        new: list[tuple[Row, Held]] = []
        for row, logits, held in read:
            try:
                row.take(logits)
            except BaseException as error:  # noqa: BLE001 - of what takes the pieces
                failed[row] = error
            else:
                new += [] if row.ended else [(row, held)]
        if new:
            self._place(new)
        return failed

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
        self._layers = {}

    def _read(self, rows: Sequence[Row]) -> list[tuple[Row, Tensor, Held]]:
        """Of each row the logits (1, vocabulary) after its prompt, and its keys and values."""
        together: list[list[Row]] = []
        open_ = False  # whether the last of them may take more
        for row in rows:
            short = len(rows) > 1 and self._short(row)
            last = [*together[-1], row] if short and open_ else [row]
            if len(last) > 1 and len(last) * max(one.start for one in last) <= _TOGETHER:
                together[-1] = last
            else:
                together.append([row])
            open_ = short
        return [
            read
            for some in together
            if (wanted := [row for row in some if not row.cancelled()])
            for read in self._read_together(wanted)
        ]

    def _short(self, row: Row) -> bool:
        """Whether a prompt may be read with others."""
        hf = self._model.model
        if hf.dtype != torch.float32 or not in_pieces(hf, row.inputs):
            return False
        return not piece_ends(row.tokens[0].tolist(), end_tokens(self._model))

    def _read_together(self, rows: Sequence[Row]) -> list[tuple[Row, Tensor, Held]]:
        """In one pass, padded on the left; a row alone as it is."""
        longest = max(row.start for row in rows)
        whats = [row.asked.what for row in rows]
        alone = len(rows) == 1
        inputs: Mapping[str, Any] = rows[0].inputs
        if not alone:
            inputs = {
                name: torch.cat([pad(row.inputs[name], (longest - row.start, 0)) for row in rows])
                for name in inputs
            }
        with self._model.adapted(whats[0] if alone else whats):
            logits, cache = read_prompt(self._model, inputs, whats[0] if alone else None)
        positions = position_ids(self._model.model, dict(inputs))
        return [
            (
                row,
                logits[at],
                Held.of(
                    cache,
                    None if positions is None else positions[..., at, -1:],
                    at,
                    longest - row.start,
                ),
            )
            for at, row in enumerate(rows)
        ]

    def _place(self, new: Sequence[tuple[Row, Held]]) -> None:
        """Give rows slots, making slots where too few are free or a row is too long."""
        slots = self._slots
        free = [at for at, one in enumerate(self._rows) if one is None]
        longest = max(held.length for _, held in new)
        short = slots is None or longest > slots.length or slots.length >= slots.total
        if short or len(free) < len(new):
            self._move(len(self) + len(new), [held for _, held in new])
            slots = self._slots
            free = [at for at, one in enumerate(self._rows) if one is None]
        assert slots is not None
        for at, (row, held) in zip(free, new, strict=False):
            slots.put(at, held)
            self._rows[at] = row
        self._changed = True

    def _move(self, count: int, new: Sequence[Held] = ()) -> None:
        """Other slots for the rows that are there, of which there are to be ``count``: as few and
        as short as will do for a while."""
        old, rows = self._slots, [row for row in self._rows if row is not None]
        places = [at for at, row in enumerate(self._rows) if row is not None]
        kept = [] if old is None else [old.take(at) for at in places]
        size = 1 << (count - 1).bit_length()
        longest = max(held.length for held in (*kept, *new))
        packed = packed_weights(self._model) if self._quantized else None
        # What packed weights cannot do is seen when they are adapted.
        self._slots = self._made(packed, size, longest, (*kept, *new)[0])
        self._slots.length = longest
        for at, held in enumerate(kept):
            self._slots.put(at, held)
        self._rows = [*rows, *[None] * (size - len(rows))]
        self._changed = True

    def _made(self, packed: PackedLlama | None, size: int, longest: int, like: Held) -> Slots:
        total = longest + _MORE
        if packed is not None and size <= packed_steps.ROWS:
            return Steps(packed, [], size, total)
        if isinstance(self._slots, Steps):  # whose numbers are float32, transformers' are not
            like = like.to(self._model.model.dtype)
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
        if isinstance(slots, Steps):
            if not self._pack(slots):  # bases are of other sides: not by packed weights
                self._quantized = False
                self._move(len(self))
                self._adapt()
            return
        base = self._model.resolve(None)
        whats = [base if row is None else row.asked.what for row in self._rows]
        if any(what.experts for what in whats):
            one = whats[0] if len(whats) == 1 else whats
            self._adapting.enter_context(self._model.adapted(one))

    def _pack(self, steps: Steps) -> bool:
        """Give each row the packed weights that it has alone; whether that can be done."""
        packed = packed_weights(self._model)
        assert packed is not None
        groups: dict[Key, tuple[list[int], list[Adapted]]] = {}
        for at, row in enumerate(self._rows):
            if row is None:
                continue
            what = row.asked.what
            key = what.key
            if key not in groups:
                layers = self._layers.get(key)
                if layers is None:
                    with self._model.adapted(what):
                        layers = packed.adapted(self._model)
                if layers is None:
                    return False
                groups[key] = [], layers
            groups[key][0].append(at)
        self._layers = {key: layers for key, (_, layers) in groups.items()}
        steps.adapt(list(groups.values()))
        return True

    def _go_on(self) -> None:
        slots = self._slots
        assert slots is not None
        live = [(at, row) for at, row in enumerate(self._rows) if row is not None]
        alone = live[0][1] if len(self._rows) == 1 else None
        guessed: list[int] = []
        if alone is not None and alone.guesses:
            guessed = alone.guess()[: slots.total - slots.length - 1]
        tokens = [[0 if row is None else int(row.tokens[0, -1])] for row in self._rows]
        tokens[0] += guessed
        logits = slots(live[0][1].tokens.new_tensor(tokens))
        for at, row in live:
            before = row.tokens.shape[1]
            row.take(logits[at], guessed)
            if guessed:  # of what was guessed wrongly nothing stays
                slots.length -= len(guessed) - (row.tokens.shape[1] - before - 1)

    def _leave(self) -> list[Row]:
        ended = [row for row in self._rows if row is not None and row.ended]
        if ended:
            # Those that are left go on by themselves, but in transformers' own model.
            self._changed |= isinstance(self._slots, Steps)
            self._rows = [None if row is None or row.ended else row for row in self._rows]
        return ended
