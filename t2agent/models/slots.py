"""Keys and values of the rows of a batch that come and go.

A row is put into a slot with what is known of its tokens, which end where those of the other rows
end; what stands before them is padding. Where it leaves, its slot is free for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer, PreTrainedModel


@dataclass(frozen=True, slots=True)
class Held:
    """Keys and values of the tokens of one row, (heads, tokens, size) each, layer by layer, and
    the position of the last token, (..., 1) int64, where models count in several dimensions."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    position: Tensor | None = None

    @property
    def length(self) -> int:
        """How many tokens."""
        return int(self.layers[0][0].shape[-2])

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(one.numel() * one.element_size() for pair in self.layers for one in pair)

    def to(self, dtype: torch.dtype) -> Held:
        """In that dtype."""
        return Held(tuple((k.to(dtype), v.to(dtype)) for k, v in self.layers), self.position)

    def part(self, start: int, end: int) -> Held:
        """A copy of those of some tokens."""
        at = slice(start, end)
        return Held(
            tuple((keys[:, at].clone(), values[:, at].clone()) for keys, values in self.layers)
        )

    @classmethod
    def of(
        cls, cache: DynamicCache, position: Tensor | None, row: int = 0, padding: int = 0
    ) -> Held:
        """Of a row of a cache, without its padding."""
        layers: Sequence[Any] = cache.layers
        rows = len(layers[0].keys)
        parts = ((layer.keys[row, :, padding:], layer.values[row, :, padding:]) for layer in layers)
        # Of several rows a copy, so that the others do not live as long as one.
        return cls(
            tuple((k.clone(), v.clone()) if rows > 1 else (k, v) for k, v in parts), position
        )


class Slots(Protocol):
    """What runs the next tokens of rows that lie in slots.

    rows: how many slots there are. total: tokens that a slot has room for. length: tokens whose
    keys and values are known, padding included; making it less forgets the last ones.
    """

    rows: int
    total: int
    length: int

    def put(self, row: int, held: Held) -> None:
        """Begin a row anew after the tokens that are held, of which it has at most ``length``."""

    def take(self, row: int) -> Held:
        """The keys and values of a row as transformers has them; float32, where that is kept."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """The logits (rows, n, vocabulary) after each of the next n tokens (rows, n)."""


class CachedSlots:
    """Slots for transformers' own model; as of `t2agent.models.packed_steps.Steps`.

    like: keys and values as this model has them.
    """

    def __init__(self, hf: PreTrainedModel, like: Held, rows: int, total: int) -> None:
        self.rows, self.total, self.length = rows, total, 0
        self._hf = hf
        self._layers = [
            (keys.new_zeros(rows, len(keys), total, keys.shape[-1]),
             values.new_zeros(rows, len(values), total, values.shape[-1]))
            for keys, values in like.layers
        ]  # fmt: skip
        device = like.layers[0][0].device
        self._padding = torch.zeros(rows, dtype=torch.int64, device=device)
        shape = () if like.position is None else like.position.shape[:-1]
        # (..., rows, 1): what is added to the place of a token to get its position
        self._offset = torch.zeros(*shape, rows, 1, dtype=torch.int64, device=device)

    def put(self, row: int, held: Held) -> None:
        """As of `Slots`."""
        at = slice(self.length - held.length, self.length)
        for (keys, values), own in zip(self._layers, held.layers, strict=True):
            keys[row, :, at], values[row, :, at] = own
        self._padding[row] = at.start
        last = held.length - 1 if held.position is None else held.position
        self._offset[..., row, :] = last - (self.length - 1)

    def take(self, row: int) -> Held:
        """As of `Slots`."""
        at = slice(int(self._padding[row]), self.length)
        layers = tuple(
            (keys[row, :, at].clone(), values[row, :, at].clone()) for keys, values in self._layers
        )
        return Held(layers, self._offset[..., row, :] + self.length - 1)

    def __call__(self, tokens: Tensor) -> Tensor:
        """As of `Slots`."""
        end = self.length + tokens.shape[1]
        places = torch.arange(self.length, end, device=tokens.device)
        seen = torch.arange(end, device=tokens.device) >= self._padding[:, None]
        layers = [_Layer(keys, values, self.length) for keys, values in self._layers]
        cache = DynamicCache()
        cache.layers = layers  # type: ignore[assignment]
        logits: Tensor = self._hf(
            input_ids=tokens,
            attention_mask=seen.long(),
            position_ids=self._offset + places,
            past_key_values=cache,
            use_cache=True,
        ).logits
        self.length = end
        return logits


class _Layer(DynamicLayer):
    """A layer of a cache that lies in memory which is there from the start."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self._memory, self._length = (keys, values), length
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The keys and values with these, which are written behind those that are known."""
        at = slice(self._length, self._length + key_states.shape[-2])
        for memory, new in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, at] = new
        self._length = at.stop
        keys, values = (memory[:, :, : at.stop] for memory in self._memory)
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens that are known."""
        return self._length
