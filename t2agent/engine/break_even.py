"""Whether writing a mixture into the weights repays itself, from measurements of this model.

Adapted, each decoding step costs a little more than the base model's; merged, it costs the same,
after the time of merging. Both are measured once per model on the machine that it runs on: a few
single-token passes with and without the mixture, and one merge of each shape of layer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from t2agent.experts.expert import MixtureLike
from t2agent.models.model import T2Model
from t2agent.models.plans import Resolved
from t2agent.svf.merge import merge

_REPEATS = 4
_MIXTURES = 4096  # of which the steps are remembered
_SPARE = 1.5  # memory left over, as a multiple of what the merged weights take


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: of merging all layers, and that one decoding step saves by it."""

    merging: float
    saving: float


class BreakEven:
    """Decides for one model, and learns how long its answers are. Safe to use from threads."""

    def __init__(self, model: T2Model) -> None:
        # Not the model itself: this is kept for as long as the model lives, and no longer.
        self._lock = threading.Lock()  # each request needs it: held for moments only
        self._measuring = threading.Lock()  # never waited for, as the model runs while it is held
        weights: list[Any] = [layer.weight for layer in model.targets.layers.values()]
        self._bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        self._running = 0
        self._length: float | None = None
        self._merging: float | None = None
        self._costs: dict[int, Costs] = {}
        self._steps: Counter[Hashable] = Counter()
        self._merged: OrderedDict[Hashable, None] = OrderedDict()

    @contextmanager
    def running(self) -> Iterator[bool]:
        """A generation runs while inside; whether it is the only one, told at its start."""
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1

    def repays(
        self,
        model: T2Model,
        what: MixtureLike | Resolved,
        key: Hashable,
        *,
        rows: int,
        max_tokens: int,
    ) -> bool:
        """Whether to merge for the answers that come now; not while another request measures.

        key: what the weights to merge depend on. The steps that were already made with this
        mixture count, since merged weights are kept for the next request as far as the model's
        budget allows; so do the answers expected now: max_tokens, or the usual length.
        """
        kept = model.merged_cache.budget // max(1, self._bytes)
        with self._lock:
            if key in self._merged:
                self._merged.move_to_end(key)
                return True
            usual = self._length
            earlier = self._steps[key] if kept else 0
        steps = earlier + (max_tokens if usual is None else min(max_tokens, usual))
        costs = self.costs(model, what, rows)
        if costs is None or steps * costs.saving < costs.merging or not self._fits(model):
            return False
        with self._lock:
            if kept:
                self._merged[key] = None
            while len(self._merged) > kept:
                forgotten, _ = self._merged.popitem(last=False)
                self._steps.pop(forgotten, None)
        return True

    def note(self, key: Hashable, steps: int) -> None:
        """An answer of a batch with this mixture took so many steps, the longest of its rows."""
        with self._lock:
            self._length = steps if self._length is None else 0.8 * self._length + 0.2 * steps
            self._steps[key] += steps
            if len(self._steps) > _MIXTURES:
                del self._steps[next(iter(self._steps))]

    def costs(self, model: T2Model, what: MixtureLike | Resolved, rows: int) -> Costs | None:
        """The measured costs for about so many rows; measured when first asked for. None where
        they are not known yet and another thread is measuring."""
        size = 1 << (rows - 1).bit_length()
        # Who measures waits for threads inside `merged`, and these for nobody who measures.
        if size not in self._costs and self._measuring.acquire(blocking=False):
            try:
                if size not in self._costs:
                    saving = _saving(model, what, size)
                    if self._merging is None:
                        self._merging = _merging(model)
                    self._costs[size] = Costs(self._merging, saving)
            finally:
                self._measuring.release()
        return self._costs.get(size)

    def _fits(self, model: T2Model) -> bool:
        if model.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(model.device)
        else:
            free = min(psutil.virtual_memory().available, _cgroup_room())
        return bool(free > _SPARE * self._bytes)


def _saving(model: T2Model, what: MixtureLike | Resolved, rows: int) -> float:
    tokens = torch.zeros(rows, 1, dtype=torch.long, device=model.device)

    def step() -> None:
        with torch.no_grad():
            model.model(input_ids=tokens, use_cache=False)

    base, adapted = [], []
    for _ in range(_REPEATS):  # in turn, so that a busy moment hits both
        base.append(_seconds(model, step))
        with model.adapted(what):
            adapted.append(_seconds(model, step))
    return max(0.0, min(adapted) - min(base))


def _merging(model: T2Model) -> float:
    alike: dict[Hashable, list[str]] = {}
    for name, layer in model.targets.layers.items():
        kind = (layer.weight.shape, layer.weight.dtype, layer.weight.device, model.bases[name].side)
        alike.setdefault(kind, []).append(name)
    total = 0.0
    for names in alike.values():
        layer, basis = model.targets.layers[names[0]], model.bases[names[0]]
        delta = torch.full((model.shapes[names[0]],), 1e-3)
        times = [_seconds(model, lambda: merge(layer, basis, delta)) for _ in range(2)]  # noqa: B023
        total += min(times) * len(names)
    return total


def _seconds(model: T2Model, call: Callable[[], object]) -> float:
    waits = model.device.type == "cuda"
    if waits:
        torch.cuda.synchronize(model.device)
    start = time.perf_counter()
    call()
    if waits:
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - start


def _cgroup_room() -> float:
    """Bytes that a container may still take; infinite where there is no limit to read."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        return limit - int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return float("inf")
