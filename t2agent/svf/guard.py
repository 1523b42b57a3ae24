"""What runs around each forward pass of a whole model, without changing the model's class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from transformers import GenerationMixin, PreTrainedModel

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
