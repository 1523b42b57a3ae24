"""Cutting a step into passes of the model that fit into memory.

Sequences of like length run together, completions of one prompt in one pass where they fit. A
sequence that does not fit by itself is run with its layers' activations computed again in the
backward pass (a third more time); then prompt and completion are one sequence, since a layer that
runs twice must not write to a cache twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from t2agent.errors import ConfigError
from t2agent.models.likelihood import Batch, completion_states, shareable
from t2agent.models.model import T2Model
from t2agent.train.memory import kept_bytes

_FULL = {"cpu": 1024}  # by kind of device, measured
_FULL_ELSEWHERE = 16384
_LEAST_FULL = 256
# Bytes of a pass on the CPU: twice as much gains 7 % of the time (SmolLM2 in float32).
_HEAVY = 0.9e9
_ALLOCATOR = {"cpu": 1.45}
_ALLOCATOR_ELSEWHERE = 1.1
_COPIES = 24  # bytes for each logit of a piece: itself and what is made of it, in float32


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a prompt and of a completion."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Rows, by number, that run together.

    tokens: that go through the layers. recomputed: activations are computed again backward.
    """

    rows: tuple[int, ...]
    tokens: int
    recomputed: bool


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes that passes of one model and adapter take, and the most that they may.

    A pass of sequences of L_i tokens that is not recomputed holds

        allocator * (token * sum L_i + pair * sum L_i^2 + repeated * sum K_i) + logits

    at its peak, K_i being the tokens of the prompt and of a completion that runs from the prompt's
    keys and values. ``token``, ``pair`` and ``repeated`` are what autograd keeps, counted in short
    passes (`measured`), so that they hold for any model, attention and adapter; ``allocator`` is
    what is lost between tensors (on the CPU, C's malloc: 1.41 measured on three architectures).
    Recomputed, a token keeps ``input`` bytes, and one layer's share of ``token`` is added.
    """

    token: float
    pair: float
    repeated: float
    input: float
    layers: int
    vocabulary: int
    logits: int
    allocator: float
    full: int
    shares: bool

    @classmethod
    def measured(cls, model: T2Model, logits: int) -> Costs:
        """Of the model as it is adapted, with gradients, where this is called.

        logits: how many logits are made at once.
        """
        hf = model.model

        def kept(prompt: int, completions: int = 1, *, again: bool = False) -> float:
            batch = Batch.made_up(model, prompt, completions, 17)
            with recomputed(hf) if again else nullcontext():
                return float(kept_bytes(lambda: completion_states(model, batch)))

        short, middle, long = (kept(prompt) for prompt in (16, 48, 80))
        # Second differences of lengths 32, 64 and 96.
        pair = max(0.0, (long - 2 * middle + short) / (2 * 32**2))
        token = (middle - short) / 32 - pair * (64 + 32)
        repeated = 0.0
        shares = shareable(hf)
        if shares:
            more = kept(48, 2) - kept(16, 2)
            repeated = max(0.0, (more - 32 * token - pair * (48**2 - 16**2)) / 64)
        layers = sum(isinstance(m, GradientCheckpointingLayer) for m in hf.modules())
        saved = token
        if layers and hf.supports_gradient_checkpointing:
            saved = (kept(48, again=True) - kept(16, again=True)) / 32
        kind = model.device.type
        allocator = _ALLOCATOR.get(kind, _ALLOCATOR_ELSEWHERE)
        full = _FULL.get(kind, _FULL_ELSEWHERE)
        if kind == "cpu":
            full = min(full, max(_LEAST_FULL, int(_HEAVY / (allocator * max(token, 1.0)))))
        return cls(
            token,
            pair,
            repeated,
            min(saved, token),
            layers,
            int(hf.config.get_text_config().vocab_size),
            _COPIES * logits,
            allocator,
            full,
            shares,
        )

    def bytes(self, groups: Sequence[Sequence[Size]], *, again: bool = False) -> int:
        """Of a pass of prompts' groups of completions; ``again``: with layers recomputed."""
        tokens, repeated, pairs = self._counts(groups, cached=not again)
        each, square = self.token, self.pair
        if again:
            each, square = self.input + each / max(1, self.layers), square / max(1, self.layers)
        kept = each * tokens + square * pairs + self.repeated * repeated
        return int(self.allocator * kept) + self.logits

    def tokens(self, groups: Sequence[Sequence[Size]]) -> int:
        """That go through the layers in a pass that is not recomputed, padding included."""
        return self._counts(groups, cached=True)[0]

    def _counts(self, groups: Sequence[Sequence[Size]], *, cached: bool) -> tuple[int, int, int]:
        """Tokens, tokens of repeated keys and values, and pairs of tokens."""
        sizes = [size for group in groups for size in group]
        if self.shares and cached and len(sizes) > len(groups):
            prompt = max(size.prompt for size in sizes)
            width = max(size.completion for size in sizes)
            tokens = len(groups) * prompt + len(sizes) * width
            seen = len(sizes) * (prompt + width)
            return tokens, seen, len(groups) * prompt**2 + seen * width
        length = max(size.prompt + size.completion for size in sizes)
        return len(sizes) * length, 0, len(sizes) * length**2

    def cut(self, groups: Sequence[Sequence[tuple[int, Size]]], room: int, rows: int) -> list[Pass]:
        """Passes of at most ``rows`` rows and ``room`` bytes, of prompts' groups of numbered rows.

        Raises:
            ConfigError: a row by itself does not fit; it says what would be needed.
        """
        ordered = sorted(groups, key=lambda group: max(map(_length, group)))
        parts = [part for group in ordered for part in self._split(group, room, rows)]
        passes: list[Pass] = []
        together: list[list[tuple[int, Size]]] = []

        def close() -> None:
            if together:
                sizes = [[size for _, size in part] for part in together]
                again = self.bytes(sizes) > room
                found = tuple(row for part in together for row, _ in part)
                passes.append(Pass(found, self.tokens(sizes), again))
                together.clear()

        for part in parts:
            sizes = [[size for _, size in one] for one in (*together, part)]
            if (
                sum(map(len, sizes)) > rows
                or self.tokens(sizes) > self.full
                or self.bytes(sizes) > room
            ):
                close()
            together.append(part)
        close()
        return passes

    def _split(
        self, group: Sequence[tuple[int, Size]], room: int, rows: int
    ) -> Iterator[list[tuple[int, Size]]]:
        """Parts of one prompt's completions that fit."""
        part: list[tuple[int, Size]] = []
        for row in sorted(group, key=_length):
            both = [*part, row]
            if part and (len(both) > rows or self.bytes([[size for _, size in both]]) > room):
                yield part
                both = [row]
            part = both
            if len(part) == 1 and (need := self.least(row[1])) > room:
                raise ConfigError(
                    f"a sequence of {_length(row)} tokens takes at least {need / 1e9:.2f} GB "
                    f"beside what is held already, but memory leaves {room / 1e9:.2f} GB: raise "
                    f"memory by {(need - room) / 1e9:.2f} GB, or leave out what is that long"
                )
        yield part

    def roomy(self, room: int) -> bool:
        """Whether passes of that many bytes are large enough to be about as fast as larger ones."""
        return self.allocator * self.token * self.full / 2 + self.logits <= room

    def replies(self, longest: Size, samples: int, room: int, rows: int) -> int:
        """How many prompts, at least 1, may be answered at once, each by that many samples.

        Keys and values are taken to be as large as the layers' inputs: they seldom are larger.
        """
        cached = longest.prompt + samples * longest.completion
        each = self.allocator * self.input * cached + samples * _COPIES * self.vocabulary
        return max(1, min(rows // samples, int(room / each)))

    def least(self, size: Size) -> int:
        """The fewest bytes that a row can be learnt from in."""
        return min(self.bytes([[size]]), self.bytes([[size]], again=True))


def _length(row: tuple[int, Size]) -> int:
    return row[1].prompt + row[1].completion


@contextmanager
def recomputed(hf: PreTrainedModel) -> Iterator[None]:
    """Inside, layers keep only what goes into them, and run again in the backward pass.

    Both passes belong inside. Models that do not support it run as ever.
    """
    # Training mode is what turns it on; dropout is of the modules inside.
    on = {"gradient_checkpointing": True, "_gradient_checkpointing_func": _again, "training": True}
    with ExitStack() as after:
        for layer in hf.modules():
            if isinstance(layer, GradientCheckpointingLayer) and hf.supports_gradient_checkpointing:
                after.callback(_put_back, vars(layer), {k: vars(layer).get(k) for k in on})
                vars(layer).update(on)
        yield


def _put_back(attributes: dict[str, Any], before: Mapping[str, Any]) -> None:
    for name, value in before.items():
        if value is None:
            del attributes[name]
        else:
            attributes[name] = value


def _again(run: Callable[..., Any], *inputs: Any) -> Any:
    """torch's checkpoint, in this context: autograd runs layers again in a thread of its own, which
    would not know what they are adapted by."""
    context = copy_context()

    def inside(*args: Tensor) -> Any:
        return context.copy().run(run, *args)

    return checkpoint(inside, *inputs, use_reentrant=False)
