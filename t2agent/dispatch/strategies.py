"""Dispatch strategies by name."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from uuid import uuid4
from weakref import finalize

from t2agent.dispatch import Dispatcher, Latest
from t2agent.dispatch.dispatcher import ForExperts
from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry
    from t2agent.experts.selection import Selection
    from t2agent.models.model import T2Model

Strategy = Literal["embedding", "prompt", "classifier", "few-shot", "embedding+few-shot", "off"]
NAMES: tuple[str, ...] = get_args(Strategy)


def make_dispatcher(
    dispatch: Dispatcher | str | None,
    model: T2Model,
    experts: Selection | None = None,
    latest: Latest | None = None,
) -> Dispatcher | None:
    """The dispatcher for a model; None where the base model is to answer.

    experts: those that a strategy by name, or a dispatcher without its own, may choose; None for
        all of the model's registry.
    latest: the mixture without a name that the few-shot strategies may use.

    Raises ConfigError for an unknown name, or what is no dispatcher, and ExpertNotFoundError for
    strategy "classifier" without its expert.
    """
    if dispatch is None or (isinstance(dispatch, str) and dispatch == "off"):
        return None
    if isinstance(dispatch, str):
        return _named(dispatch, model, model.registry if experts is None else experts, latest)
    if isinstance(dispatch, ForExperts):
        return dispatch.among(model.registry if experts is None else experts)
    if not callable(getattr(dispatch, "dispatch", None)):
        raise ConfigError(
            f"a {type(dispatch).__name__} was given as the dispatcher: it needs a method "
            "dispatch(requests) that returns a Decision for each"
        )
    return dispatch


def version_of(dispatcher: object) -> str:
    """Changes with whatever changes a decision, besides the registry; for caches.

    dispatcher: one, what it asks, or None for the base model.
    """
    if dispatcher is None:
        return "off"
    version = getattr(dispatcher, "version", None)
    kind = type(dispatcher)
    # One that tells no version is only known to be equal to itself.
    known = f"object {_TOKENS.of(dispatcher)}" if version is None else version
    return f"{kind.__module__}.{kind.__qualname__} {known}"


class _Tokens:
    """A token for each object, which no other has, now or later, in this process or another.

    Caches outlive objects, and a new object may get the number (`id`) of one that is gone.
    """

    def __init__(self) -> None:
        self._living: dict[int, str] = {}  # by number; taken out when the object goes
        self._lock = threading.Lock()

    def of(self, thing: object) -> str:
        """The object's token; a new one each time, where an object takes no weak references."""
        with self._lock:
            token = self._living.get(id(thing))
            if token is None:
                token = uuid4().hex
                with suppress(TypeError):
                    finalize(thing, self._living.pop, id(thing)).atexit = False
                    self._living[id(thing)] = token
            return token


_TOKENS = _Tokens()


class Strategies:
    """The dispatchers of one base model: the same object for the same name. Safe to use from
    several threads.

    given: the experts that a strategy by name may choose, registered where they are not yet (names,
        Experts and experts' folders); None for all of the model's registry.

    Attributes:
        experts: these experts, as a registry is read.
        latest: the mixture without a name that the few-shot strategies may use.
    """

    def __init__(self, model: T2Model, given: Sequence[Expert | Path | str] | None = None) -> None:
        from t2agent.experts.selection import Selection  # the names alone must load in no time

        self.model, self.given = model, given
        self.experts = None if given is None else Selection.of(model.registry, given)
        self.latest = Latest()
        self._made: dict[str, Dispatcher | None] = {}
        self._lock = threading.Lock()

    def dispatcher(self, dispatch: Dispatcher | str | None) -> Dispatcher | None:
        """The dispatcher that a name stands for, or that was given. Raises as `make_dispatcher`."""
        if not isinstance(dispatch, str):
            return make_dispatcher(dispatch, self.model, self.experts)
        with self._lock:
            if dispatch not in self._made:
                self._made[dispatch] = make_dispatcher(
                    dispatch, self.model, self.experts, self.latest
                )
            return self._made[dispatch]


def _named(
    strategy: str, model: T2Model, experts: Registry | Selection, latest: Latest | None
) -> Dispatcher:
    from t2agent import dispatch  # its classes load on first use

    match strategy:
        case "embedding":
            return dispatch.EmbeddingDispatcher(experts)
        case "prompt":
            return dispatch.PromptDispatcher(model, experts)
        case "classifier":
            return dispatch.ClassifierDispatcher(model, experts)
        case "few-shot":
            return dispatch.FewShotDispatcher(experts, latest)
        case "embedding+few-shot":
            return dispatch.RefinedDispatcher(experts, latest)
    raise ConfigError(
        f"there is no dispatch strategy {strategy!r}: choose one of {', '.join(NAMES)}, or "
        "give a Dispatcher"
    )
