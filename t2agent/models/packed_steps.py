"""Decoding steps of Llama-shaped models by the packed weights of their GGUF file, on a CPU.

One token of a small model takes its time in starting operations: some 1,500 in transformers, 700
here (`t2agent.models.packed_llama`); what a step writes lies in memory that is there from the
start. The prompt is read by transformers' model, by which many tokens take less time.

Numbers between layers are float32; what goes into a product is rounded to bfloat16. Rows of
different mixtures are adapted each as it is alone (`Steps.adapt`): the kernels round a row the same
among others, so its reply does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, LlamaForCausalLM

from t2agent.experts.expert import MixtureLike
from t2agent.models import packed
from t2agent.models.model import T2Model
from t2agent.models.packed_llama import (
    DOWN,
    GATE,
    KV,
    O_PROJ,
    Q_PROJ,
    TENSORS,
    UP,
    PackedLlama,
    side_by_side,
)
from t2agent.models.packed_products import (
    Adapted,
    Added,
    Layer,
    LowRank,
    Several,
    below,
)
from t2agent.models.plans import Resolved
from t2agent.models.slots import Held

ROWS = 16
"""Rows of a batch up to which steps by packed weights take less time."""
_DTYPES = (torch.bfloat16, torch.float32)
_ROTATIONS = frozenset({"default", "linear", "llama3"})  # which depend on the position alone
_CLOSE = 0.05  # of the logits' norm, between packed weights and the model's


class Steps:
    """A batch being decoded. Calling it runs the next tokens of each row.

    packed: the weights. rows: of the batch. total: tokens that a row can have, prompt and reply.

    ``layers``: the weights under the mixtures of the rows (`adapt`). ``length``: tokens whose keys
    and values are known; making it less forgets the last ones.
    """

    def __init__(
        self, packed: PackedLlama, layers: Sequence[Adapted], rows: int, total: int
    ) -> None:
        self.layers = layers
        self.rows, self.total, self.length = rows, total, 0
        self._packed = packed
        self._padding = torch.zeros(rows, dtype=torch.int64)
        # (layers, keys or values, rows, heads, tokens, size); what no row sees must be finite
        self._known = torch.zeros(len(packed.layers), 2, rows, packed.keys, total, packed.size)
        self._room, self._alike = self._known, 0
        self._turns = packed.rotations(torch.arange(total))
        self._hidden: Tensor | None = None
        self._order = torch.arange(rows)  # the rows as the layers take them, by their numbers
        self._space = _Space(packed, rows, 1, rows)

    @classmethod
    def after(
        cls,
        packed: PackedLlama,
        layers: Sequence[Adapted],
        cache: DynamicCache,
        attention: Tensor,
        room: int,
    ) -> Steps:
        """Those after some prompts.

        cache: transformers', of the prompts, or of one that all rows begin with. attention: (rows,
        prompt) which of their tokens are not padding. room: tokens that may still come.
        """
        rows, length = attention.shape
        made = cls(packed, layers, rows, length + room)
        made.length = length
        prompts: Any = cache.layers
        if len(prompts[0].keys) == 1:
            made._alike = length
        for known, layer in zip(made._known, prompts, strict=True):
            known[0, :, :, :length] = side_by_side(layer.keys, packed.size)
            known[1, :, :, :length] = layer.values
        made._pad(length - attention.sum(1))
        return made

    def adapt(self, groups: Sequence[tuple[Sequence[int], Sequence[Adapted]]]) -> None:
        """Go on with these rows alone, a group for each mixture, under these layers."""
        counts = [len(rows) for rows, _ in groups]
        order = [row for rows, _ in groups for row in rows]
        each = zip(*(layers for _, layers in groups), strict=True)
        self.layers = [below(counts, layers) for layers in each]
        self._order = torch.tensor(order)
        self._space = _Space(self._packed, self.rows, 1, len(order))

    def branch(self, sources: Sequence[int]) -> None:
        """Go on with these rows alone, of which some may come several times, but no more than there
        were at first; for rows that began alike, under one mixture."""
        live, new = len(sources), slice(self._alike, self.length)
        if list(sources) != list(range(live)):
            self._room[:, :, :live, :, new] = self._room[:, :, list(sources), :, new]
        if live != self.rows:
            self.rows, self._known = live, self._room[:, :, :live]
            self._padding, self._order = torch.zeros(live, dtype=torch.int64), torch.arange(live)
            self._space = _Space(self._packed, live, 1, live)

    def put(self, row: int, held: Held) -> None:
        """Begin a row anew after the tokens that are held, of which it has at most ``length``."""
        at = slice(self.length - held.length, self.length)
        for known, (keys, values) in zip(self._known, held.layers, strict=True):
            known[0, row, :, at] = side_by_side(keys, self._packed.size)
            known[1, row, :, at] = values
        padding = self._padding.clone()
        padding[row] = at.start
        self._pad(padding)

    def take(self, row: int) -> Held:
        """The keys and values of a row as transformers has them, in float32."""
        known = self._known[:, :, row, :, int(self._padding[row]) : self.length]
        return Held(tuple((_halves(one[0]), one[1].clone()) for one in known))

    def _pad(self, padding: Tensor) -> None:
        """padding: (rows,) tokens of each row that nothing sees."""
        self._padding, self._hidden = padding, None
        if bool(padding.any()):
            seen = torch.arange(self.total) >= padding[:, None]
            self._hidden = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """The logits (rows, n, vocabulary) float32 after each of the next n tokens (rows, n); of
        rows that do not go on, zeros."""
        packed, (rows, n) = self._packed, tokens.shape
        start, end = self.length, self.length + n
        order, live = self._order, len(self._order)
        space = self._space if n == 1 else _Space(packed, rows, n, live)
        layers = self.layers
        if n > 1:
            layers = [
                (layer, {name: one.repeated(n) for name, one in added.items()})
                for layer, added in layers
            ]
        space.x.copy_(functional.embedding(tokens[order].flatten(), packed.embedding))
        turns = self._turns[start:end]
        if rows > 1:
            turns = self._turns[(torch.arange(start, end) - self._padding[:, None]).flatten()]
        places = (order[:, None] * n + torch.arange(n)).flatten()
        slots = self._known[..., start:end, :].unbind()
        seen = self._seen_by_each(end) if n == 1 and rows > 1 else self._seen_by_all(start, end)
        for (layer, added), slot, known in zip(layers, slots, seen, strict=True):
            space.attend(layer, added, turns, slot, known, places)
            space.feed(layer, added)
        self.length = end
        found = packed.head(space.normalised(packed.norm)).float().view(live, n, -1)
        if rows == live == 1:
            return found
        return found.new_zeros(rows, *found.shape[1:]).index_copy_(0, order, found)

    def _seen_by_each(self, end: int) -> Iterable[Sequence[_Seen]]:
        """For each layer what each row that goes on sees: as alone, without padding."""
        each = []
        for row in self._order.tolist():
            known = self._known[:, :, row, :, int(self._padding[row]) : end]
            keys, values = known[:, 0].mT.unbind(), known[:, 1].unbind()
            each.append([_Seen(row, k, v) for k, v in zip(keys, values, strict=True)])
        return zip(*each, strict=True)

    def _seen_by_all(self, start: int, end: int) -> Iterable[Sequence[_Seen]]:
        """For each layer what all rows see, with a mask for what one does not."""
        hidden = self._mask(start, end)
        known = self._known[..., :end, :].flatten(2, 3)
        both = zip(known[:, 0].mT.unbind(), known[:, 1].unbind(), strict=True)
        return ([_Seen(None, keys, values, hidden)] for keys, values in both)

    def _mask(self, start: int, end: int) -> Tensor | None:
        """What is added to the scores of keys that a token does not see; None for nothing."""
        hidden = None
        if end - start > 1:
            later = torch.ones(end - start, end, dtype=torch.bool).triu_(start + 1)
            hidden = torch.zeros(later.shape).masked_fill_(later, -torch.inf)
        if self._hidden is not None:
            padding = self._hidden[:, None, None, None, :end]
            hidden = padding if hidden is None else padding + hidden
        return hidden


@dataclass(frozen=True, slots=True)
class _Seen:
    """Keys and values (heads, ...) that a row sees, None for all rows; hidden: what is added to the
    scores."""

    row: int | None
    keys: Tensor
    values: Tensor
    hidden: Tensor | None = None


class _Space:
    """What a step of n tokens of each row writes into, and views of it: `x` (live * n, width)
    float32 is what goes from layer to layer, of the rows that go on."""

    def __init__(self, packed: PackedLlama, rows: int, n: int, live: int) -> None:
        many, width, size = live * n, packed.width, packed.size
        heads, each = packed.keys, packed.queries // packed.keys
        queries, keys = packed.queries * size, packed.keys * size
        whole = torch.full((many, width + 1), packed.beside)
        self.whole, self.x = whole, whole[:, :width]
        self._h = torch.empty(many, width)
        self._in = torch.empty(many, width, dtype=torch.bfloat16)
        self._products = torch.empty(many, queries + 2 * keys)
        self._parts = (queries, 2 * keys)
        qkv = torch.zeros(rows * n, queries + 2 * keys)
        self._qkv, self._turned = qkv, torch.view_as_complex(qkv.view(rows * n, -1, size // 2, 2))
        self._new = qkv[:, queries:].view(rows, n, 2, heads, size).permute(2, 0, 3, 1, 4)
        self._asked = qkv[:, :queries].view(rows, n, heads, each, size).permute(0, 2, 3, 1, 4)
        self._flat = (rows * heads, each * n, size)
        self._mixed = torch.zeros(self._flat)
        mixed = self._mixed.view(rows, heads, each, n, size).permute(0, 3, 1, 2, 4)
        self._each = self._mixed.view(rows, heads, each * n, size).unbind()
        self._mixed_in = torch.empty(rows, n, heads, each, size, dtype=torch.bfloat16)
        self._mixed_view = mixed
        self._mixed_flat = self._mixed_in.view(rows * n, queries)
        self._scored = (rows, heads, each, n, -1)
        self._moved = rows > 1

    def normalised(self, weight: Tensor) -> Tensor:
        """x by the norm of that weight, bfloat16."""
        norm = torch.linalg.vector_norm(self.whole, dim=-1, keepdim=True)
        torch.div(self.x, norm, out=self._h)
        return torch.mul(self._h, weight, out=self._in)

    def attend(
        self,
        layer: Layer,
        added: Added,
        turns: Tensor,
        slot: Tensor,
        seen: Sequence[_Seen],
        places: Tensor,
    ) -> None:
        """Attention, added to x. slot: where keys and values of these tokens are written, beside
        those that are seen. places: where the tokens of x lie there."""
        y = layer.qkv(self.normalised(layer.before))
        products = self._products if self._moved else self._qkv
        products.copy_(y)
        if added:
            (q, kv), sums = y.split(self._parts, 1), products.split(self._parts, 1)
            if Q_PROJ in added:
                sums[0].add_(added[Q_PROJ](q))
            if KV in added:
                sums[1].add_(added[KV](kv))
        if self._moved:
            self._qkv.index_copy_(0, places, products)
        self._turned.mul_(turns)
        slot.copy_(self._new)
        asked = self._asked.reshape(self._flat)
        each = asked.view(len(self._each), -1, *asked.shape[1:]).unbind()
        for one in seen:
            own = asked if one.row is None else each[one.row]
            mixed = self._mixed if one.row is None else self._each[one.row]
            scores = torch.bmm(own, one.keys)
            if one.hidden is not None:
                scores.view(self._scored).add_(one.hidden)
            torch.bmm(torch.softmax(scores, -1), one.values, out=mixed)
        self._mixed_in.copy_(self._mixed_view)
        mixed = self._mixed_flat
        self._add(layer.o(mixed[places] if self._moved else mixed), added.get(O_PROJ))

    def feed(self, layer: Layer, added: Added) -> None:
        """The layer's MLP, added to x."""
        h = self.normalised(layer.after)
        gate = layer.gate(h + added[GATE](h) if GATE in added else h)
        up = layer.up(h + added[UP](h) if UP in added else h)
        h = functional.silu(gate, inplace=True).mul_(up)
        self._add(layer.down(h), added.get(DOWN))

    def _add(self, y: Tensor, added: LowRank | Several | None) -> None:
        self.x.add_(y)
        if added is not None:
            self.x.add_(added(y))


def _halves(heads: Tensor) -> Tensor:
    """The opposite of `side_by_side`, for heads that lie apart."""
    pairs: Tensor = heads.unflatten(-1, (-1, 2))
    return pairs.transpose(-1, -2).flatten(-2)


def packed_weights(model: T2Model) -> PackedLlama | None:
    """Those of a model; None where it has another shape, no GGUF file or no fast kernel."""
    return None if model.gguf is None else model.attached(_made)[0]


def serves(model: T2Model, what: MixtureLike | Resolved, rows: int) -> bool:
    """Whether batches of so many rows are decoded by packed weights under a mixture."""
    if rows > ROWS or (made := packed_weights(model)) is None:
        return False
    with model.adapted(what):
        return made.adapted(model) is not None


def _made(model: T2Model) -> tuple[PackedLlama | None]:
    file, hf = model.gguf, model.model
    if file is None or not packed.available() or not _fits(hf):
        return (None,)
    layers = range(hf.config.num_hidden_layers)
    wanted = {
        f"{at}.{part}": [f"blk.{at}.{name}.weight" for name in names]
        for at in layers
        for part, names in TENSORS.items()
    }
    head = "token_embd" if hf.config.tie_word_embeddings else "output"
    found = packed.read(file, {**wanted, "head": [f"{head}.weight"]})
    if not wanted.keys() <= found.keys():
        return (None,)
    made = PackedLlama(hf, found)
    return (made if _close(hf, made) else None,)


def _fits(hf: Any) -> bool:
    """Whether the model is of the shape that is computed here, on a CPU."""
    if type(hf) is not LlamaForCausalLM or hf.device.type != "cpu" or hf.dtype not in _DTYPES:
        return False
    config: Any = hf.config
    plain = config.hidden_act == "silu" and not (config.attention_bias or config.mlp_bias)
    heads = config.head_dim * config.num_attention_heads == config.hidden_size
    return plain and heads and hf.model.rotary_emb.rope_type in _ROTATIONS


@torch.no_grad()
def _close(hf: Any, made: PackedLlama) -> bool:
    """Whether two tokens after two others are computed as by the model itself: the file's weights
    are the model's."""
    tokens = torch.tensor([[0, 1, 2, 3]])
    cache = DynamicCache()
    hf(input_ids=tokens[:, :2], past_key_values=cache, use_cache=True)
    plain: list[Adapted] = [(layer, {}) for layer in made.layers]
    steps = Steps.after(made, plain, cache, torch.ones(1, 2, dtype=torch.int64), 2)
    got, wanted = steps(tokens[:, 2:]), hf(input_ids=tokens).logits[:, 2:].float()
    return bool((got - wanted).norm() <= _CLOSE * wanted.norm())
