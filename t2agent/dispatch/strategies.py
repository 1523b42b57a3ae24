"""Dispatch strategies by name, and the experts that they may choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from t2agent.dispatch import Dispatcher, Latest
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard, Modality
from t2agent.experts.expert import Expert
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model

NAMES = ("embedding", "prompt", "classifier", "few-shot", "embedding+few-shot", "off")


class Selection:
    """Some of a registry's experts, read as a registry is."""

    def __init__(self, registry: Registry, names: Sequence[str]) -> None:
        self._registry = registry
        self._names = frozenset(names)

    @classmethod
    def of(cls, registry: Registry, experts: Sequence[Expert | Path | str]) -> Selection:
        """These experts; an Expert or a folder is registered where it is not yet.

        Raises ConfigError where a single expert was given instead of a list,
        ExpertNotFoundError for an unknown name, and what `Registry.register` raises.
        """
        if isinstance(experts, str | Path | Expert) or not isinstance(experts, Iterable):
            raise ConfigError(f"experts is {experts!r}: give a list")
        names = []
        for given in experts:
            if isinstance(given, str) and (given in registry or not Path(given).is_dir()):
                names.append(registry.card(given).name)
                continue
            expert = given if isinstance(given, Expert) else Expert.load(given)
            if expert.name not in registry or registry.get(expert.name) is not expert:
                same = (
                    expert.name in registry
                    and registry.get(expert.name).digest() == expert.digest()
                )
                if not same:
                    registry.register(expert)
            names.append(expert.name)
        return cls(registry, names)

    def add(self, name: str) -> None:
        """Let an expert of the registry be chosen as well."""
        self._names |= {name}

    def __len__(self) -> int:
        return len(self.cards())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._names and name in self._registry

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes an answer."""
        return f"{self._registry.fingerprint} {sorted(self._names)}"

    def names(self, modality: Modality | None = None) -> list[str]:
        """As `Registry.names`."""
        return list(self.cards(modality))

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """As `Registry.cards`."""
        cards = self._registry.cards(modality)
        return {name: card for name, card in cards.items() if name in self._names}


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
