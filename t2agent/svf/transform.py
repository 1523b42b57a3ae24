"""The transform around linear layers, which stay black boxes.

Side "out" adds Q((z - 1) * (Q^T (y - b))) to the output y = W x + b, side "in" adds
Q((z - 1) * (Q^T x)) to the input. Both are forward hooks that exist only while some context is
adapted; the weight is neither read nor written, so it may be quantised, tied, sharded or
offloaded, and outside the context the layer is what it was, bit for bit.

Keeping compiled code away while layers have hooks.

torch.compile does not look for hooks on the modules of a model that it has compiled already: it
would run the base model's code without a word. While any context is adapted, compiled models run
uncompiled, in all threads, for torch 2.13 has nothing narrower: a stance is the whole process's,
`torch.compiler.disable` does not reach what was compiled by itself (such as the layers of a model)
inside the function that it disables, and around the layers it is an error under fullgraph=True.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from t2agent.errors import ConfigError
from t2agent.svf.basis import Basis
from t2agent.svf.rows import Layout, RowIndex, layout

Term = tuple[float, Tensor]  # a_k and z_k, a float32 vector of length r

_FEW = 8
"""Positions up to which half precision is computed in float32 on a processor: of a few directions
that takes 21 microseconds a layer for one position instead of 41, since kernels for half precision
take 15 to start (Q of 896 x 64, AVX-512; equal at 8 positions)."""


class LayerDelta:
    """sum_k a_k (z_k - 1) of one layer, for each different mixture of a batch.

    `terms[g]` holds the terms of mixture g, `rows` says which rows of the batch have it. While
    gradients are recorded and some z wants them, the sum is formed anew at every use; otherwise
    it is kept until a z is changed in place, without the last directions that none of them moves.
    """

    def __init__(
        self, terms: Sequence[Sequence[Term]], size: int, rows: RowIndex | None = None
    ) -> None:
        self._terms = tuple(tuple(group) for group in terms)
        self._size = size
        self._rows = rows
        self._vectors = [z for group in self._terms for _, z in group]
        self._trains = any(z.requires_grad for z in self._vectors)
        self._kept: dict[tuple[torch.device, torch.dtype], tuple[tuple[int, ...], Tensor]] = {}

    def __call__(self, device: torch.device, dtype: torch.dtype, index: Tensor | None) -> Tensor:
        """(k,) for one mixture for all rows, else (*index.shape, k), for the first k <= r
        directions: none beyond is moved by any mixture."""
        usual = index is None or (self._rows is not None and index is self._rows.groups)
        if not usual or self._training:
            return self._form(device, dtype, index)
        versions = tuple(z._version for z in self._vectors)
        kept = self._kept.get((device, dtype))
        if kept is None or kept[0] != versions:
            with torch.no_grad():
                kept = versions, self._form(device, dtype, index)
            self._kept[device, dtype] = kept
        return kept[1]

    @property
    def bytes(self) -> int:
        """Bytes of the sums that are kept, on all devices."""
        kept = list(self._kept.values())  # another thread may add to it
        return sum(total.numel() * total.element_size() for _, total in kept)

    def is_zero(self) -> bool:
        """Whether the transform changes nothing now, and will not be trained to."""
        if self._trains:
            return False
        return not bool(self.sums(torch.device("cpu")).any())

    def single(self) -> Tensor:
        """(r,) float32 of the only mixture, without gradient."""
        with torch.no_grad():
            return self.sums(self._vectors[0].device)[0]

    @property
    def _training(self) -> bool:
        return self._trains and torch.is_grad_enabled()

    def sums(self, device: torch.device) -> Tensor:
        """(mixtures, r) float32."""
        rows = []
        for group in self._terms:
            total = torch.zeros(self._size, device=device)
            for weight, z in group:
                total = total + weight * (z.to(device, torch.float32) - 1)
            rows.append(total)
        return torch.stack(rows)

    def _form(self, device: torch.device, dtype: torch.dtype, index: Tensor | None) -> Tensor:
        sums = self.sums(device)
        if not self._training:  # where z is 1 now, it has a gradient
            moved = sums.any(0).nonzero()
            sums = sums[:, : int(moved[-1]) + 1 if len(moved) else 0]
        sums = sums.to(dtype)
        return sums[0] if index is None else sums[index.to(device)]


@dataclass(eq=False)
class Plan:
    """What one context does to the layers: their deltas, and the rows that they belong to.

    experts: those whose vectors the deltas are formed of. columns: the deltas are 0 beyond the
    first that many directions, for who knows so; None: they may not be.
    """

    deltas: Mapping[str, LayerDelta]
    rows: RowIndex | None  # None: one mixture for all rows
    batch: int | None  # how many rows were asked for; None: any number
    experts: tuple[object, ...] = ()
    columns: int | None = None

    def __post_init__(self) -> None:
        self.deltas = {name: one for name, one in self.deltas.items() if not one.is_zero()}

    @property
    def bytes(self) -> int:
        """Bytes of what was formed for the layers, on all devices."""
        return sum(delta.bytes for delta in self.deltas.values())


class Transforms:
    """The hooks on the layers of one model, and the plan of each context."""

    def __init__(
        self, layers: Mapping[str, nn.Module], bases: Mapping[str, Basis], vision: frozenset[str]
    ) -> None:
        self._layers = layers
        self._bases = bases
        self._vision = vision
        self._active: ContextVar[Plan | None] = ContextVar("t2agent_plan", default=None)
        self._layout: ContextVar[Layout | None] = ContextVar("t2agent_layout", default=None)
        self._hooks = _Shared(self._hooked)
        self._placed: dict[str, dict[Any, Any]] = {name: {} for name in layers}

    @contextmanager
    def use(self, plan: Plan | None) -> Iterator[None]:
        """Transform by `plan` while inside; None is the base model."""
        hooked = plan is not None and bool(plan.deltas)
        token = self._active.set(plan if hooked else None)
        try:
            if hooked:
                with uncompiled(), self._hooks.inside():
                    yield
            else:
                yield
        finally:
            self._active.reset(token)

    @property
    def plan(self) -> Plan | None:
        """That of the current context."""
        return self._active.get()

    @property
    def in_use(self) -> bool:
        """Whether the current context has a plan."""
        return self._active.get() is not None

    @property
    def by_row(self) -> bool:
        """Whether the current context's plan is for a batch of certain rows."""
        plan = self._active.get()
        return plan is not None and plan.batch is not None

    @contextmanager
    def seeing(
        self, config: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Iterator[None]:
        """A forward pass of a whole model runs inside: learn where its rows are, if that matters.

        Passes may nest: some vision-language models call their language model as a whole.
        """
        plan = self._active.get()
        if plan is None or plan.batch is None:
            yield
            return
        where = layout(config, args, kwargs, pictures=plan.rows is not None)
        outer = self._layout.get()
        inside = outer is not None and outer.running
        if where is not None:
            where.check(plan.batch, repeated=inside)
        self._layout.set(where)
        try:
            yield
        finally:
            self._layout.set(outer if inside else where and replace(where, running=False))

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """The layers have hooks while inside."""
        with ExitStack() as handles:
            for name, layer in self._layers.items():
                if self._bases[name].side == "in":
                    handle = layer.register_forward_pre_hook(partial(self._before, name))
                else:
                    handle = layer.register_forward_hook(partial(self._after, name))
                handles.enter_context(handle)
            yield

    def _before(self, name: str, _layer: nn.Module, args: tuple[Any, ...]) -> Any:
        changed = self._transform(name, args[0] if args else None)
        return None if changed is None else (changed, *args[1:])

    def _after(self, name: str, _layer: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        return self._transform(name, output)

    def _transform(self, name: str, x: Tensor | None) -> Tensor | None:
        """x + Q(delta * (Q^T x - offset)); x is (..., r). None where the layer is left alone."""
        plan = self._active.get()
        if plan is None or (delta := plan.deltas.get(name)) is None:
            return None
        if x is None:
            raise ConfigError(f"{name} was called without a positional input: cannot adapt it")
        kind = x.device.type
        casting = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if casting else x.dtype
        index = None
        if plan.rows is not None:
            index = plan.rows.find(name, x.shape, self._layout.get(), name in self._vision)
        flat = x.reshape(-1, x.shape[-1])
        few = kind == "cpu" and len(flat) <= _FEW and not (casting or torch.is_grad_enabled())
        work = torch.promote_types(dtype, torch.float32) if few else dtype
        scale = delta(x.device, work, index)[..., : plan.columns]
        if not scale.numel():  # a z was changed back in place
            return None
        if 2 * scale.shape[-1] > flat.shape[1]:  # reading Q takes longer than starting
            work, scale = dtype, scale.to(dtype)
        q, offset = self._directions(name, x.device, work, scale.shape[-1])
        flat = flat.to(work)
        inner = flat @ q if offset is None else torch.addmm(offset, flat, q)
        if index is None:
            inner = inner * scale
        else:
            inner = (inner.view(index.shape[0], -1, q.shape[1]) * scale).view(inner.shape)
        return torch.addmm(flat, inner, q.mT).view(x.shape).to(x.dtype)

    def _directions(
        self, name: str, device: torch.device, dtype: torch.dtype, k: int
    ) -> tuple[Tensor, Tensor | None]:
        """The first k columns of Q and, where the layer has an offset, of it with its sign turned.

        What is kept is all of them where the basis lies there in that dtype; else it is a copy of
        as many as were asked for together.
        """
        kept = self._placed[name].get((device, dtype))
        if kept is None or kept[0].shape[1] < k:
            basis = self._bases[name]
            most = len(basis.q) if 2 * k > len(basis.q) or dtype == basis.q.dtype else k
            with torch.inference_mode(False):  # it is kept, and may meet gradients later
                offset = None if basis.offset is None else -basis.offset[:most].to(device, dtype)
                kept = basis.q[:, :most].to(device, dtype).contiguous(), offset
            self._placed[name][device, dtype] = kept
        q, offset = kept
        if q.shape[1] == k:
            return kept
        return q[:, :k], None if offset is None else offset[:k]


class _Shared:
    """A context that several threads may be inside of: the first enters it, the last leaves it."""

    def __init__(self, enter: Callable[[], AbstractContextManager[Any]]) -> None:
        self._enter = enter
        self._lock = threading.Lock()
        self._users = 0
        self._entered = ExitStack()

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._entered.enter_context(self._enter())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._entered.close()


uncompiled = _Shared(lambda: torch.compiler.set_stance("force_eager")).inside
"""What torch.compile has made is not used inside. Contexts of several threads may overlap."""
