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
    """``pins``: how many contexts use it now; ``key``: that a plan was put under."""

    bytes: int = 0
    pins: int = 0
    plan: bool = False
    key: Hashable = None


class ExpertCache(Generic[P]):
    """Experts and plans in memory. All methods may be called from any thread.

    budget: bytes that may be kept. What is larger is used, but not kept. Experts that were
    registered in code count, though only what was formed of them can be dropped.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._lock = threading.Lock()
        self._bytes = 0  # of experts and plans, without `_lasting`
        # The least recently used first; a plan before its experts, so that it is dropped first.
        self._kept: OrderedDict[Any, _Kept] = OrderedDict()
        self._plans = 0  # how many of them are plans
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
            if not rereadable:
                self._lasting[expert] = 4 * expert.parameters
            elif expert not in self._kept:
                self._kept[expert] = _Kept(bytes=4 * expert.parameters)
                self._bytes += 4 * expert.parameters
            else:
                self._kept.move_to_end(expert)
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
            pinned += [self._kept[one] for one in plan.experts if one in self._kept]
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

    def _use_plan(self, plan: P) -> _Kept:
        if plan not in self._kept:
            self._kept[plan] = _Kept(plan=True)
            self._plans += 1
            self._measure(plan)
        for one in (plan, *plan.experts):
            if one in self._kept:
                self._kept.move_to_end(one)
        return self._kept[plan]

    def _measure(self, plan: P) -> None:
        # Experts that are kept nowhere else live as long as the plan does.
        others = [e for e in plan.experts if e not in self._kept and e not in self._lasting]
        now = plan.bytes + 4 * sum(expert.parameters for expert in others)
        self._bytes += now - self._kept[plan].bytes
        self._kept[plan].bytes = now

    def _trim(self) -> None:
        lasting = sum(self._lasting.values())
        while self._plans > _PLANS and self._drop_oldest(only_plans=True):
            pass
        while self._bytes and self._bytes + lasting > self._budget and self._drop_oldest():
            pass

    def _drop_oldest(self, *, only_plans: bool = False) -> bool:
        """False where all that is left is in use."""
        loose = (
            one for one, its in self._kept.items() if not its.pins and (its.plan or not only_plans)
        )
        if (one := next(loose, None)) is None:
            return False
        kept = self._kept.pop(one)
        self._bytes -= kept.bytes
        self._plans -= kept.plan
        if self._by_key.get(kept.key) is one:
            del self._by_key[kept.key]
        return True
