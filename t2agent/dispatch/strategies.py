"""Dispatch strategies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.dispatch import Dispatcher, Latest
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

    experts: those that a strategy by name may choose; None for all of the model's registry.
    latest: the mixture without a name that the few-shot strategies may use.

    Raises ConfigError for an unknown name, or what is no dispatcher, and ExpertNotFoundError for
    strategy "classifier" without its expert.
    """
    if dispatch is None or (isinstance(dispatch, str) and dispatch == "off"):
        return None
    if isinstance(dispatch, str):
        return _named(dispatch, model, model.registry if experts is None else experts, latest)
    if not callable(getattr(dispatch, "dispatch", None)):
        raise ConfigError(
            f"a {type(dispatch).__name__} was given as the dispatcher: it needs a method "
            "dispatch(requests) that returns a Decision for each"
        )
    return dispatch


def version_of(dispatcher: Dispatcher | None) -> str:
    """Changes with whatever changes a decision, besides the registry; for caches."""
    if dispatcher is None:
        return "off"
    version = getattr(dispatcher, "version", None)
    kind = type(dispatcher)
    # One that tells no version is only known to be equal to itself.
    known = f"object {id(dispatcher)}" if version is None else version
    return f"{kind.__module__}.{kind.__qualname__} {known}"


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
