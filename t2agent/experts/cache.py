"""The vectors that are kept in memory, within a budget of bytes.

Of a thousand experts few are in use at a time. Experts that can be read from their folders again
are dropped when the budget is full, the least recently used first; so are plans, which hold what
was formed of the vectors for the layers, on the layers' devices (on a GPU these are the only copies
there). What a running context uses is pinned: it is neither dropped nor left out of the count.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert

DEFAULT_BUDGET = 256 << 20
_PLANS = 64  # plans kept, so that entering a context again costs little

_T = TypeVar("_T")


class Formed(Protocol):
    """What was formed of experts for the layers of a model; `t2agent.svf.transform.Plan` is it."""

    @property
    def experts(self) -> tuple[Any, ...]:
        """Those whose vectors it is formed of."""

    @property
    def bytes(self) -> int:
        """Bytes that it holds now, on all devices."""


P = TypeVar("P", bound=Formed)


@dataclass(slots=True, eq=False)
class _Kept:
    """``last_used``: by the cache's own clock; ``pins``: how many contexts use it now."""

    last_used: int = 0
    bytes: int = 0
    pins: int = 0
    key: Hashable = None


class ExpertCache(Generic[P]):
    """Experts and plans in memory. All methods may be called from any thread.

    budget: bytes that may be kept. What is larger is used, but not kept. Experts that were
    registered in code count, though only what was formed of them can be dropped.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._lock = threading.Lock()
        self._clock = 0
        self._bytes = 0  # of experts and plans, without `_lasting`
        # A plan is always older than its experts here, so that it is dropped before them.
        self._experts: OrderedDict[Expert, _Kept] = OrderedDict()
        self._plans: OrderedDict[P, _Kept] = OrderedDict()
        self._by_key: dict[Hashable, P] = {}
        self._lasting: WeakKeyDictionary[Expert, int] = WeakKeyDictionary()
        self.budget = budget

    @property
    def budget(self) -> int:
        """Bytes that may be kept; where it is lowered, what is too much is dropped at once.

        Raises ConfigError where it is set to what is no number of bytes.
        """
        return self._budget

    @budget.setter
    def budget(self, budget: int) -> None:
        if not isinstance(budget, int) or isinstance(budget, bool) or budget < 0:
            raise ConfigError(f"budget is {budget!r}; give a number of bytes, 0 or more")
        with self._lock:
            self._budget = budget
            self._trim()

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        with self._lock:
            return self._bytes + sum(self._lasting.values())

    def keep(self, expert: Expert, *, rereadable: bool) -> None:
        """An expert was asked for. rereadable: whether it can be read from its folder again."""
        with self._lock:
            if rereadable:
                if expert not in self._experts:
                    self._experts[expert] = _Kept(bytes=4 * expert.parameters)
                    self._bytes += 4 * expert.parameters
                self._use_expert(expert)
            else:
                self._lasting[expert] = 4 * expert.parameters
            self._trim()

    def plan(self, key: Hashable) -> P | None:
        """The plan that was put under a key, if it is still kept."""
        with self._lock:
            plan = self._by_key.get(key)
            if plan is not None:
                self._use_plan(plan)
            return plan

    def put(self, key: Hashable, plan: P) -> None:
        """Keep a plan, and the experts that it is of with it."""
        with self._lock:
            if key not in self._by_key:  # another thread may have been faster
                self._by_key[key] = plan
                self._use_plan(plan).key = key
                self._trim()

    @contextmanager
    def pinned(self, plan: P) -> Iterator[None]:
        """A plan, and so its experts, are in use while inside."""
        with self._lock:
            pinned = [self._use_plan(plan)]
            pinned += [self._experts[one] for one in plan.experts if one in self._experts]
            for kept in pinned:
                kept.pins += 1
        try:
            yield
        finally:
            with self._lock:
                for kept in pinned:
                    kept.pins -= 1
                self._use_plan(plan)
                self._measure(plan)  # only now it is known what the layers formed
                self._trim()

    def _use_expert(self, expert: Expert) -> None:
        self._clock += 1
        self._experts[expert].last_used = self._clock
        self._experts.move_to_end(expert)

    def _use_plan(self, plan: P) -> _Kept:
        if plan not in self._plans:
            self._plans[plan] = _Kept()
            self._measure(plan)
        self._clock += 1
        self._plans[plan].last_used = self._clock
        self._plans.move_to_end(plan)
        for expert in plan.experts:
            if expert in self._experts:
                self._use_expert(expert)
        return self._plans[plan]

    def _measure(self, plan: P) -> None:
        # Experts that are kept nowhere else live as long as the plan does.
        others = [e for e in plan.experts if e not in self._experts and e not in self._lasting]
        now = plan.bytes + 4 * sum(expert.parameters for expert in others)
        self._bytes += now - self._plans[plan].bytes
        self._plans[plan].bytes = now

    def _trim(self) -> None:
        lasting = sum(self._lasting.values())
        while len(self._plans) > _PLANS and (plan := _oldest(self._plans)) is not None:
            self._drop_plan(plan)
        while self._bytes and self._bytes + lasting > self._budget:
            plan, expert = _oldest(self._plans), _oldest(self._experts)
            if expert is not None and (
                plan is None or self._experts[expert].last_used < self._plans[plan].last_used
            ):
                self._bytes -= self._experts.pop(expert).bytes
            elif plan is not None:
                self._drop_plan(plan)
            else:
                return  # all that is left is in use

    def _drop_plan(self, plan: P) -> None:
        kept = self._plans.pop(plan)
        self._bytes -= kept.bytes
        if self._by_key.get(kept.key) is plan:
            del self._by_key[kept.key]


def _oldest(kept: OrderedDict[_T, _Kept]) -> _T | None:
    return next((one for one, its in kept.items() if not its.pins), None)
