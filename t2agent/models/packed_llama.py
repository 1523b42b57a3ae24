"""The packed weights of a Llama-shaped model's GGUF file, and what experts make of them.

The rows of queries and keys lie as in the GGUF file, the two numbers that a position rotates side
by side, so that rotating is one product of complex numbers; query, key and value are one product.

Of each weight that an expert changes, less is read in one of two ways. W' is written out and
rounded to 8 bits; or W stays as it is, and the expert is added as in `t2agent.svf.transform`: to
what comes out of the product, or, where the basis is that of the input (gate and up), to what goes
in. Rows of different mixtures take the second way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from t2agent.models.model import T2Model
from t2agent.models.packed import PackedWeight
from t2agent.models.packed_products import Adapted, Layer, LowRank, RoundedWeight
from t2agent.svf.merge import merged_weight
from t2agent.svf.transform import Plan

KEPT = 256 << 20
"""Bytes of weights with experts written into them that are kept, of the latest mixtures."""
_STEP = 64  # directions are taken by so many
_STARTED = 100_000  # bytes that are read in the time that three more operations take to start
TENSORS = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "o": ("attn_output",),
    "gate": ("ffn_gate",),
    "up": ("ffn_up",),
    "down": ("ffn_down",),
}
Q_PROJ, K_PROJ, V_PROJ, O_PROJ = (f"self_attn.{part}_proj" for part in "qkvo")
GATE, UP, DOWN = (f"mlp.{part}_proj" for part in ("gate", "up", "down"))
_BASES = {
    Q_PROJ: "out",
    K_PROJ: "out",
    V_PROJ: "out",
    O_PROJ: "out",
    GATE: "in",
    UP: "in",
    DOWN: "out",
}
"""The weights of a layer, with the side that the basis has to be of."""
KV = "kv"
_TOGETHER: dict[str, dict[str, tuple[str, ...]]] = {
    "qkv": {Q_PROJ: (Q_PROJ,), KV: (K_PROJ, V_PROJ)},
    "o": {O_PROJ: (O_PROJ,)},
    "gate": {GATE: (GATE,)},
    "up": {UP: (UP,)},
    "down": {DOWN: (DOWN,)},
}
"""The weights that make one product, those together that are added to at once."""


class PackedLlama:
    """The packed weights of one model, and those that its experts change."""

    def __init__(self, hf: LlamaForCausalLM, weights: Mapping[str, PackedWeight]) -> None:
        config: Any = hf.config
        self.width: int = config.hidden_size
        self.queries: int = config.num_attention_heads
        self.keys: int = config.num_key_value_heads
        self.size = self.width // self.queries
        # Beside what is normalised: the norm of both is sqrt(width (mean square + epsilon)).
        self.beside = (self.width * config.rms_norm_eps) ** 0.5
        self.embedding = hf.model.embed_tokens.weight.detach()
        root = self.width**0.5
        self.norm = root * hf.model.norm.weight.detach().float()
        self.layers = [
            Layer(
                root * layer.input_layernorm.weight.detach().float(),
                root * layer.post_attention_layernorm.weight.detach().float(),
                **{part: weights[f"{at}.{part}"] for part in TENSORS},
            )
            for at, layer in enumerate(hf.model.layers)
        ]
        self.head: Callable[[Tensor], Tensor]
        if "head" in weights:
            self.head = weights["head"]
        else:  # in float32 a row's rounding would depend on how many rows there are
            head = hf.lm_head.weight.detach().bfloat16()
            self.head = partial(functional.linear, weight=head)
        self._rotary = hf.model.rotary_emb
        # Attention's scale is that of the queries; values are not rotated.
        self._scale = torch.ones(self.queries + 2 * self.keys, 1)
        self._scale[: self.queries] = self.size**-0.5
        self._directions: dict[tuple[object, ...], LowRank] = {}
        self._kept: OrderedDict[int, tuple[Plan, list[Adapted]]] = OrderedDict()  # by plans' ids
        self._keeping = Lock()

    def rotations(self, positions: Tensor) -> Tensor:
        """Of each position (n,), by what its queries, keys and values are multiplied:
        (n, heads, size / 2) complex64."""
        cos, sin = self._rotary(self._scale, positions[None])
        half = self.size // 2
        turned = torch.complex(cos[0, :, None, :half], sin[0, :, None, :half]) * self._scale
        turned[:, self.queries + self.keys :] = 1
        return turned

    def adapted(self, model: T2Model) -> list[Adapted] | None:
        """The layers as the current context adapts them; None where that cannot be done here:
        weights are merged, or bases are of other sides."""
        plan = model.plan
        if model.rewritten:
            return None
        if plan is None:
            return [(layer, {}) for layer in self.layers]
        if any(model.bases[name].side != _side(name) for name in plan.deltas):
            return None
        if plan.rows is not None:
            return self._adapted(model, plan)
        with self._keeping:
            kept = self._kept.pop(id(plan), None)
            found = self._adapted(model, plan) if kept is None else kept[1]
            self._kept[id(plan)] = plan, found
            while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > KEPT:
                self._kept.popitem(last=False)
        return found

    @torch.no_grad()
    def _adapted(self, model: T2Model, plan: Plan) -> list[Adapted]:
        sums = {name: one.sums(torch.device("cpu")) for name, one in plan.deltas.items()}
        k = -(-max(map(_moved, sums.values()), default=1) // _STEP) * _STEP
        found: list[Adapted] = []
        for at, layer in enumerate(self.layers):
            prefix = f"model.layers.{at}."
            written: dict[str, Any] = {}
            added: dict[str, LowRank] = {}
            for product, groups in _TOGETHER.items():
                names = [prefix + name for parts in groups.values() for name in parts]
                moved = {name: sums[name][:, :k] for name in names if name in sums}
                if moved and plan.rows is None and _sooner_written(model, names, moved):
                    each = [self._written(model, name, moved.get(name)) for name in names]
                    written[product] = RoundedWeight.of(torch.cat(each))
                    continue
                for group, parts in groups.items():
                    here = [prefix + name for name in parts]
                    deltas = [moved[name] for name in here if name in moved]
                    if deltas:
                        delta = torch.cat(deltas, 1)
                        rows = delta if plan.rows is None else delta[plan.rows.groups[:, 0]]
                        added[group] = self._first(model, here, moved, k).by(rows)
            found.append((replace(layer, **written), added))
        return found

    def _written(self, model: T2Model, name: str, delta: Tensor | None) -> Tensor:
        """A weight with what an expert does to it, float32, in the order of the packed one."""
        layer = model.model.get_submodule(name)
        if delta is None:
            return self._ordered(name, _weight(model, name).float())
        return self._ordered(name, merged_weight(layer, model.bases[name], delta[0]).float())

    def _first(
        self, model: T2Model, names: Sequence[str], moved: Mapping[str, Tensor], k: int
    ) -> LowRank:
        """The first k directions of those weights that are moved, by 1."""
        key = (k, *((name, name in moved) for name in names))
        if key not in self._directions:
            parts = [
                self._ordered(name, model.bases[name].q[:, :k].float())
                if name in moved
                else torch.empty(len(_weight(model, name)), 0)
                for name in names
            ]
            self._directions[key] = LowRank.of(torch.block_diag(*parts))
        return self._directions[key]

    def _ordered(self, name: str, rows: Tensor) -> Tensor:
        """The rows of a weight, those of queries and keys as they lie in a GGUF file."""
        return side_by_side(rows.mT, self.size).mT if name.endswith((Q_PROJ, K_PROJ)) else rows


def _side(name: str) -> str:
    return next(side for part, side in _BASES.items() if name.endswith(part))


def _weight(model: T2Model, name: str) -> Tensor:
    layer: Any = model.model.get_submodule(name)
    weight: Tensor = layer.weight
    return weight.detach()


def _sooner_written(model: T2Model, names: Sequence[str], moved: Mapping[str, Tensor]) -> bool:
    """Whether weights take less time in 8 bits a number, with an expert written into them, than in
    5 (the codes, scales and zeros) with its directions beside them."""
    written = sum(_weight(model, name).numel() for name in names) * 3 / 8
    beside = (2 * model.shapes[name] * one.shape[1] + _STARTED for name, one in moved.items())
    return written < sum(beside)


def _bytes(kept: tuple[Plan, list[Adapted]]) -> int:
    """Of the weights that an expert is written into, and of its plan."""
    plan, layers = kept
    each = [getattr(layer, product) for layer, _ in layers for product in _TOGETHER]
    written = sum(one.numbers.numel() for one in each if isinstance(one, RoundedWeight))
    return plan.bytes + written


def _moved(sums: Tensor) -> int:
    """Directions up to the last that is moved; sums: (mixtures, r)."""
    moved = sums.any(0).nonzero()
    return int(moved[-1]) + 1 if len(moved) else 1


def side_by_side(heads: Tensor, size: int) -> Tensor:
    """The last dimension, of heads of that size, so that the two halves of each alternate."""
    halves: Tensor = heads.unflatten(-1, (-1, 2, size // 2))
    return halves.transpose(-1, -2).flatten(-3)
