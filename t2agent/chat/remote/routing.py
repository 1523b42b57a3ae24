"""Which model of an endpoint answers a request: the dispatcher's choice among what it serves."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from t2agent.dispatch import CLASSIFIER, Decision, Dispatcher, EmbeddingDispatcher, Request
from t2agent.dispatch.strategies import version_of
from t2agent.engine.two_passes import Choice, Given
from t2agent.errors import ConfigError, ExpertNotFoundError
from t2agent.experts.expert import Expert, as_mixture
from t2agent.experts.mixture import Mixture
from t2agent.experts.registry import Registry
from t2agent.experts.selection import Selection
from t2agent.paths import public_name

if TYPE_CHECKING:  # loads langchain-openai, which may be missing
    from t2agent.chat.remote.endpoint import Endpoint

STRATEGIES = ("embedding", "off")
"""Those that need no base model here."""

Engine = Literal["models", "mixtures", "llama.cpp"]
"""How an endpoint is told who answers: each expert is a model of its own; mixtures are models, of
names such as "smollm2:tools=0.7+extract=0.3" (vLLM with t2agent's plugin); or each request has the
scales of all adapters (llama.cpp's server)."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request.

    Attributes:
        model: the name under which the endpoint serves it.
        decision: the dispatcher's, or the caller's.
        expert: whose weights answer; None for the base model's, and for several experts'.
        exact: whether that is the decision's mixture. An endpoint of models adds one LoRA to a
            request, with weight 1: of several experts the likeliest one answers. Others take all
            that they serve, but no weights by layers.
        fields: what the request says beside the model's name.
    """

    model: str
    decision: Decision
    expert: str | None = None
    exact: bool = True
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What answers, in plain JSON, beside the decision."""
        told = {"model": self.model, "expert": self.expert, "exact": self.exact}
        return {**told, "lora": self.fields["lora"]} if "lora" in self.fields else told


@dataclass(frozen=True, slots=True)
class Served:
    """What an endpoint serves.

    Attributes:
        base: the base model's name there.
        names: expert -> its name there; None where the endpoint does not tell.
        engine: how it is told who answers.
        numbers: name there -> llama.cpp's number of the adapter.
    """

    base: str
    names: Mapping[str, str] | None
    engine: Engine = "models"
    numbers: Mapping[str, int] = field(default_factory=dict)

    def name_of(self, expert: str) -> str | None:
        """An expert's name there; None where it is not served."""
        return expert if self.names is None else self.names.get(expert)

    def scales(self, weights: Mapping[str, float]) -> dict[str, Any]:
        """llama.cpp's fields of a request: the scale of every adapter, since it would take its own
        for all where it is told none; and that no prompt is taken from its cache, which knows
        tokens only, not under which adapters they were read."""
        wanted = {self.name_of(expert): weight for expert, weight in weights.items()}
        lora = [{"id": n, "scale": wanted.get(name, 0.0)} for name, n in self.numbers.items()]
        return {"lora": lora, "cache_prompt": False}


class Router:
    """Chooses among the experts of a registry that an endpoint serves.

    What it serves is asked for once, and again by `refresh`, or where an expert that a caller
    names is not among it. All methods may be called from any thread.

    Args:
        endpoint: what is asked.
        model: the base model's name, as its experts know it.
        registry: the experts; None for those of ``model``.
        experts: those that may be chosen, as of `ChatT2`.
        served: expert -> its name at the endpoint, which is then not asked, but for the numbers of
            llama.cpp's adapters.
        engine: how the endpoint is told who answers; None for "llama.cpp" where it says that it is
            that, else "models".
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        registry: Registry | None,
        experts: Sequence[Expert | Path | str] | None,
        served: Mapping[str, str] | None,
        engine: Engine | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.registry = Registry(model) if registry is None else registry
        self._model = model
        if engine not in (None, *get_args(Engine)):
            raise ConfigError(
                f"engine is {engine!r:.80}; give {', '.join(map(repr, get_args(Engine)))} or None"
            )
        self._engine = engine
        self._made_of = (endpoint, model, registry, experts, served, engine)
        self._allowed = None if experts is None else Selection.of(self.registry, experts)
        self._names: Mapping[str, str] | None = None
        self._base = (served or {}).get(model)
        self._served: Served | None = None
        if served is not None:
            self._names = {name: there for name, there in served.items() if name != model}
            if engine in (None, "models"):
                self._served = Served(self._base or model, self._names)
        self._embedding: EmbeddingDispatcher | None = None
        self._named: set[str] = set()
        self._lock = threading.RLock()

    def serves(self, *made_of: object) -> bool:
        """Whether these arguments would make a router like this one."""
        return self._made_of == made_of

    def route(self, request: Request, choice: Choice) -> Route:
        """Who answers a request.

        Raises ExpertNotFoundError for an expert that is not served, ConfigError for a mixture that
        no endpoint can serve or a strategy that needs the base model, EndpointError where the
        endpoint must be asked and fails.
        """
        if isinstance(choice, Given):
            named: Any = choice.what  # nothing is resolved without the base model
            return self._given(as_mixture(named)[0])
        dispatcher = self.dispatcher(choice)
        if dispatcher is None:
            return self._to({}, Decision(Mixture(), "off", {}, True, 0.0))
        decisions = dispatcher.dispatch([request])
        if len(decisions) != 1:
            raise ConfigError(
                f"{type(dispatcher).__name__}.dispatch returned {len(decisions)} decisions for one "
                "request: it must return one for each"
            )
        return self._decided(decisions[0])

    def named(self, model: str) -> Route:
        """The route to a model that the caller named as the endpoint does."""
        names = self.served.names or {name: name for name in self.registry}
        expert = next((one for one, name in names.items() if name == model), None)
        mixture = Mixture({} if expert is None else {expert: 1.0})
        return Route(model, Decision(mixture, "given", dict(mixture.weights)), expert)

    def dispatcher(self, choice: Dispatcher | str | None) -> Dispatcher | None:
        """The dispatcher of a strategy; None where the base model answers.

        Raises ConfigError for a strategy that needs the base model, and what is no dispatcher.
        """
        checked = check_dispatch(choice)
        if checked == "embedding":
            served = self.served
            with self._lock:
                if self._embedding is None:
                    self._embedding = EmbeddingDispatcher(self._choosable(served))
                return self._embedding
        return checked if not isinstance(checked, str) else None

    def version(self, choice: Dispatcher | str | None) -> str:
        """Changes with whatever changes a choice; for caches."""
        return f"{version_of(self.dispatcher(choice))} {self.served} {self.registry.fingerprint}"

    @property
    def served(self) -> Served:
        """What the endpoint serves, asked for where it is not known yet."""
        with self._lock:
            if self._served is None:
                self.refresh()
            assert self._served is not None
            return self._served

    def refresh(self) -> bool:
        """Ask the endpoint anew what it serves; tells whether that has changed.

        Raises EndpointError where it fails.
        """
        with self._lock:
            if self._names is not None and self._engine in (None, "models"):
                return False
            found, before = self._asked(), self._served
            if found != before:
                self._served, self._embedding = found, None
            return before is not None and found != before

    def _asked(self) -> Served:
        listed = self.endpoint.models()
        experts = list(self.registry if self._allowed is None else self._allowed)
        base = self._base or _base(self._model, listed or [], experts)
        engine = self._engine or _engine(listed or [])
        if engine == "mixtures":
            # By its own name, a model of `t2agent serve` is one whose experts are chosen there.
            return Served(f"{base}:base" if _ours(listed or []) else base, self._names, engine)
        if engine == "llama.cpp":
            numbers = self.endpoint.adapters()
            names = self._names or {name: name for name in numbers}
            names = {expert: name for expert, name in names.items() if name in numbers}
            self._tell_missing(experts, names, "llama-server with --lora {}.gguf")
            return Served(base, names, engine, numbers)
        if listed is None:
            self._warn(
                "",
                f"{self.endpoint.url} does not list its models: each expert is taken to be "
                "served under its own name; say otherwise with served={expert: name}",
            )
            return Served(base, None)
        names = {str(one["id"]): str(one["id"]) for one in listed}
        self._tell_missing(experts, names, "vLLM with --lora-modules {}=FOLDER")
        return Served(base, names)

    def _tell_missing(self, experts: Sequence[str], names: Mapping[str, str], start: str) -> None:
        for name in experts:
            if name not in names and name != CLASSIFIER:
                self._warn(
                    name,
                    f"expert {name!r} is not served at {self.endpoint.url} and so never chosen: "
                    f"start {start.format(name)}, or say its name there with served=",
                )

    def _choosable(self, served: Served) -> Registry | Selection:
        """The experts that a strategy by name may choose."""
        if served.names is None:
            return self.registry if self._allowed is None else self._allowed
        names = [name for name in served.names if name != served.base]
        asked = self._allowed is not None
        if self._allowed is not None:
            names = [name for name in names if name in self._allowed]
        # An expert that is registered later is among them if the endpoint has it already.
        return Selection(self.registry, names, asked=asked)

    def _given(self, mixture: Mixture) -> Route:
        weights = {name: weight for name, weight in mixture.weights.items() if weight}
        decision = Decision(mixture, "given", dict(mixture.weights))
        if not mixture:
            return self._to({}, decision)
        mixes = self.served.engine != "models"
        if mixture.layers or not (mixes or list(weights.values()) == [1.0]):
            can = (
                "serves whole experts, not by layers"
                if mixes
                else "adds one LoRA to a request, with weight 1"
            )
            raise ConfigError(
                f"the mixture {weights} was given, but an endpoint {can}: export the mixture as an "
                "expert of its own, serve that, and give expert=NAME"
            )
        if any(self.served.name_of(expert) is None for expert in weights):
            self.refresh()
        for expert in weights:
            if self.served.name_of(expert) is None:
                raise self._not_served(expert)
            if self.served.names is None:
                self.registry.card(expert)  # for its error: nobody else would tell of a slip
        return self._to(weights, decision)

    def _not_served(self, expert: str) -> ExpertNotFoundError:
        names = sorted(self.served.names or {})
        start = f"vLLM with --lora-modules {expert}=FOLDER (a folder of `t2agent experts export`)"
        if self.served.engine == "llama.cpp":
            start = f"llama-server with --lora {expert}.gguf (`t2agent experts export -f gguf`)"
        return ExpertNotFoundError(
            f"expert {expert!r} is not served at {self.endpoint.url}, which serves "
            f"{', '.join(names) or 'none'}: start {start}, or give "
            "served={expert: its name there}"
        )

    def _decided(self, decision: Decision) -> Route:
        weights = {name: w for name, w in decision.mixture.weights.items() if w}
        served = self.served
        if served.engine != "models":
            usable = {n: w for n, w in weights.items() if served.name_of(n) is not None}
            return self._to(
                usable, decision, exact=not decision.mixture.layers and usable == weights
            )
        usable = {n: w for n, w in weights.items() if w > 0 and served.name_of(n) is not None}
        exact = not decision.mixture.layers and list(weights.values()) in ([], [1.0])
        if not usable:
            return Route(served.base, decision, exact=exact and not weights)
        best = max(usable, key=lambda name: usable[name])
        return self._to({best: 1.0}, decision, exact=exact)

    def _to(self, weights: Mapping[str, float], decision: Decision, *, exact: bool = True) -> Route:
        """The route to a mixture of experts that are served; of none, to the base model."""
        served = self.served
        names = {expert: str(served.name_of(expert)) for expert in weights}
        only = next(iter(weights)) if len(weights) == 1 else None
        model, fields = served.base, {}
        if served.engine == "llama.cpp":
            fields = served.scales(weights)
        elif served.engine == "mixtures" and weights:
            text = Mixture({names[expert]: weight for expert, weight in weights.items()}).to_text()
            model = f"{public_name(self._model)}:{text}"
        elif only is not None:
            model = names[only]
        return Route(model, decision, only, exact, fields)

    def _warn(self, about: str, text: str) -> None:
        """Say something once."""
        if about not in self._named:
            self._named.add(about)
            warnings.warn(text, stacklevel=2)


def check_dispatch(choice: object) -> Any:
    """A strategy's name or a Dispatcher; "off" for None.

    Raises ConfigError for a strategy that needs the base model, and what is no dispatcher.
    """
    if choice is None:
        return "off"
    dispatches = callable(getattr(choice, "dispatch", None))
    known = choice in STRATEGIES if isinstance(choice, str) else dispatches
    if not known:
        raise ConfigError(
            f"dispatch is {choice!r:.80}: where the base model is at an endpoint, give one of "
            f"{', '.join(STRATEGIES)}, or a Dispatcher"
        )
    return choice


def _engine(listed: Sequence[Mapping[str, Any]]) -> Engine:
    """What an endpoint says that it is by its list of models."""
    if _ours(listed):
        return "mixtures"
    llama = bool(listed) and all(one.get("owned_by") == "llamacpp" for one in listed)
    return "llama.cpp" if llama else "models"


def _ours(listed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is `t2agent serve`."""
    return bool(listed) and all(one.get("owned_by") == "t2agent" for one in listed)


def _base(model: str, listed: Sequence[Mapping[str, Any]], experts: Sequence[str]) -> str:
    """The base model's name in a list of models: as its experts know it, as vLLM's root of a
    model that was given another name, or the only one that is neither a LoRA nor an expert."""
    names = [str(one["id"]) for one in listed]
    if model in names:
        return model
    bases = [one for one in listed if not one.get("parent") and one["id"] not in experts]
    rooted = [str(one["id"]) for one in bases if one.get("root") == model]
    if rooted:
        return rooted[0]
    return str(bases[0]["id"]) if len(bases) == 1 else model
