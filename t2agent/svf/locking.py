"""Who may see a model's weights: many forward passes at once, or one owner that rewrites them.

The guard runs around each forward pass of a whole model, without changing the model's class.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from transformers import GenerationMixin, PreTrainedModel


class WeightLock:
    """A lock with many readers or one owner.

    A forward pass reads; `merged` owns. Ownership belongs to the context (a thread, an asyncio
    task, and what they start with a copied context, such as asyncio.to_thread) and is re-entrant;
    the owner reads freely. A waiting owner goes before new readers.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._readers = 0
        self._waiting = 0
        self._owner: object | None = None
        self._token: ContextVar[object | None] = ContextVar("t2agent_weight_owner", default=None)
        self._reading: ContextVar[bool] = ContextVar("t2agent_weight_reader", default=False)

    @property
    def owned(self) -> bool:
        """Whether the current context owns the weights."""
        return self._owner is not None and self._token.get() is self._owner

    @contextmanager
    def own(self) -> Iterator[None]:
        """Keep everybody else from running the model while inside."""
        if self.owned:
            yield
            return
        mine = object()
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: self._owner is None and self._readers == 0)
                self._owner = mine
            finally:
                self._waiting -= 1
                self._free.notify_all()
        token = self._token.set(mine)
        try:
            yield
        finally:
            self._token.reset(token)
            with self._free:
                self._owner = None
                self._free.notify_all()

    @contextmanager
    def read(self) -> Iterator[None]:
        """A forward pass runs inside; one begins only while no other context owns the weights."""
        if self.owned or self._reading.get():
            yield
            return
        with self._free:
            self._free.wait_for(lambda: self._owner is None and self._waiting == 0)
            self._readers += 1
        token = self._reading.set(True)
        try:
            yield
        finally:
            self._reading.reset(token)
            with self._free:
                self._readers -= 1
                self._free.notify_all()


Reading = Callable[[], AbstractContextManager[None]]
Seeing = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], AbstractContextManager[None]]


def guard(model: PreTrainedModel, reading: Reading, seeing: Seeing) -> None:
    """Run the model's forward passes inside `reading()`, and those with tokens in `seeing(...)`.

    seeing gets the configuration and the arguments of the call. generate() calls encoders by
    themselves, so each model inside the model is read on its own, and generate() itself is seen;
    and BLIP-2's generate() calls its language model and never its own forward.
    """
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        seen = module is model or isinstance(module, GenerationMixin)
        _wrap(module, "forward", reading, seeing if seen else None)
    if isinstance(model, GenerationMixin):
        _wrap(model, "generate", None, seeing)


def _wrap(
    model: PreTrainedModel, name: str, reading: Reading | None, seeing: Seeing | None
) -> None:
    setattr(model, name, _Guarded(getattr(model, name), model.config, reading, seeing))


class _Guarded:
    """A method of a model. A copy of the model, or a pickled one, gets the plain method back."""

    def __init__(
        self, inner: Any, config: Any, reading: Reading | None, seeing: Seeing | None
    ) -> None:
        self._inner = inner
        self._config = config
        self._reading = reading
        self._seeing = seeing
        # generate() reads the signature. Not the attributes: two T2Models may guard one model.
        functools.update_wrapper(self, inner, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._reading is not None:
            with self._reading():
                return self._run(args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._seeing is None:
            return self._inner(*args, **kwargs)
        with self._seeing(self._config, args, kwargs):
            return self._inner(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # copy.deepcopy binds it to the copy; a closure would go on running the original.
        return _plain, (self._inner,)


def _plain(method: Any) -> Any:
    return method
