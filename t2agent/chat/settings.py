"""What ChatT2 and T2LLM have in common: their fields, their engine, and options of one call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages.ai import UsageMetadata
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, StrictBool

from t2agent.dispatch.strategies import version_of
from t2agent.engine.shortlist import Shortlist
from t2agent.engine.threads import give_back_threads
from t2agent.engine.two_passes import Answer, Choice, Engine, Given
from t2agent.errors import ConfigError, NotCopyableError
from t2agent.experts.expert import Expert
from t2agent.experts.registry import Registry
from t2agent.models.installed import AUTO, named
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions, config_errors

_GENERATION = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "num_beams",
    "seed",
)  # fmt: skip
_OTHERS = 3  # other base models that are kept for calls that name them
CHOICE = ("expert", "mixture", "dispatch")
"""The options of a call that say who answers; one of them at a time."""
OPTIONS = (*_GENERATION, *CHOICE)
"""The options of a call that every model takes."""
LANGCHAIN = frozenset({"stream", "stream_usage", "ls_structured_output_format"})
"""What LangChain itself passes down and the model need not know."""
# LangChain's standard parameters of remote models: accepted, and without a meaning here.
_REMOTE = frozenset({"api_key", "base_url", "timeout", "max_retries"})


class KeptHere:
    """Holds a loaded base model, which stays where it is."""

    def __deepcopy__(self, memo: Any = None) -> Self:
        raise self._kept_here("copied deeply", "copy.copy or model_copy, which share the model")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self._kept_here("pickled", "the arguments, and make a new one from them elsewhere")

    def _kept_here(self, what: str, instead: str) -> NotCopyableError:
        return NotCopyableError(
            f"a {type(self).__name__} cannot be {what}: it holds a loaded base model with its "
            f"experts; use {instead}"
        )


class Settings(KeptHere, BaseModel):
    """The model is loaded, and everything checked, when an object is made.

    Raises ConfigError for an unknown model or strategy and for options out of range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", populate_by_name=True)

    model: Any = AUTO
    """A base model's name or path, or a T2Model. "auto": as of `T2Model.from_pretrained`."""
    dispatch: Any = "embedding"
    """A strategy's name ("embedding", "prompt", "classifier", "few-shot", "embedding+few-shot",
    "off"), a Dispatcher, or None for the base model."""
    experts: Any = None
    """Those that dispatch may choose: names, and Experts or folders, which are registered if they
    are not yet; None for all of the registry."""
    expert: Any = None
    """One that answers all requests, instead of dispatch: a name or an Expert."""
    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    top_k: int = 0
    """Of the likeliest tokens so many are drawn; 0 for all."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_beams: int | None = None
    """How many beginnings of a greedy reply that a grammar holds (a schema's JSON, a call, a label)
    are written at once, of which the likeliest whole reply is given: 1 is fastest; None is as many
    as the experts that answer ask for."""
    stop: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    seed: int | None = None
    device_map: Any = None
    dtype: Any = "auto"
    """Of the base model: "auto" is the checkpoint's, but float32 on a CPU that has to emulate
    bfloat16 (`t2agent.models.precision.widen`)."""
    quantized: StrictBool = True
    """Whether replies are decoded by the 4-bit weights of the base model's GGUF file, where it has
    one and runs on a CPU, which is as exact as bfloat16 and three times as fast. False: in
    ``dtype``, as it is trained."""
    allow_models: StrictBool | list[str] = True
    """Which other base models a call may name as its ``model``, and so have loaded: any, none
    (False), or those of a list. Refuse them where calls come from strangers."""

    engine: Engine = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """What dispatches and answers; made from ``model``, ``dispatch`` and ``experts``. LangChain's
    configurable fields make a copy of this object for each call, which takes it over."""

    _more: ClassVar[tuple[str, ...]] = ()
    """Fields of a subclass that a call may override, too, and that its answer depends on."""
    _sampled: ClassVar[tuple[str, ...]] = ()
    """Those of them that say how a reply is sampled, or what is told of it."""
    _others: OrderedDict[T2Model | str, Self] = PrivateAttr(default_factory=OrderedDict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, model: T2Model | str = AUTO, **fields: Any) -> None:
        own = {name: value for name, value in fields.items() if name not in _REMOTE}
        names = (name for name, field in type(self).model_fields.items() if not field.exclude)
        with config_errors(type(self).__name__, names):
            super().__init__(model=model, **own)
        self._options(None, {})
        known: Engine | None = self.engine
        if known is not None and known.serves(self.model, self.experts, self.quantized):
            self.engine = known.dispatching(self.dispatch)
            return
        if not isinstance(self.model, T2Model):
            self.model = T2Model.from_pretrained(
                self.model, device_map=self.device_map, dtype=self.dtype
            )
        self.engine = Engine(
            self.model, self.dispatch, experts=self.experts, quantized=self.quantized
        )
        give_back_threads()  # those that loaded the model

    @property
    def t2(self) -> T2Model:
        """The base model."""
        return self.engine.model

    @property
    def registry(self) -> Registry:
        """The experts of the base model."""
        return self.engine.model.registry

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Whatever an answer depends on: LangChain's cache takes its key from here."""
        names = (*_GENERATION, *self._more, "expert", "quantized")
        return {
            "model_name": self.t2.name,
            "base_fingerprint": self.t2.fingerprint,
            "answering": self.t2.answering,
            "experts": (self.engine.registry or self.registry).fingerprint,
            "dispatch": version_of(self.engine.dispatcher),
            "allow_models": self.allow_models,
            "own_stop": self.stop,  # LangChain writes the call's over a "stop"
            **digests({name: getattr(self, name) for name in names}),
        }

    def other(self, model: T2Model | str) -> Self:
        """The same with another base model: a call's ``model``. It is loaded once; the three that
        were asked for last are kept.

        Raises ConfigError for one that `allow_models` leaves out, or that cannot be loaded.
        """
        key = model if isinstance(model, T2Model) else named(str(model))
        name = key if isinstance(key, str) else key.name
        if key is self.t2 or key == self.t2.name:
            return self
        allowed = self.allow_models
        if allowed is False or (isinstance(allowed, list) and name not in allowed):
            known = ", ".join(map(repr, [self.t2.name, *(allowed or ())]))
            raise ConfigError(
                f"a call names the model {name!r:.100}, but here only {known} may be named: do so, "
                f"or make the {type(self).__name__} with allow_models=[...] or True"
            )
        with self._lock:
            if key not in self._others:
                # The engine, and what ChatT2 says of the model, are the other's own.
                names = type(self).model_fields.keys() - {"model", "engine", "profile"}
                own = {name: getattr(self, name) for name in names}
                self._others[key] = type(self)(model, **own)
            self._others.move_to_end(key)
            if len(self._others) > _OTHERS:
                self._others.popitem(last=False)
            return self._others[key]

    def _options(
        self, stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> tuple[GenerationOptions, Any]:
        """The options and the choice of one call: its own before the object's."""
        unknown = set(given) - {*OPTIONS, *self._more, *LANGCHAIN}
        if unknown:
            raise ConfigError(
                f"unknown option(s) {', '.join(sorted(unknown))}: a call takes stop, "
                f"{', '.join((*OPTIONS, *self._more))}"
            )
        stops = self.stop if stop is None else stop
        if isinstance(stops, str):
            stops = [stops]
        own = {name: getattr(self, name) for name in (*_GENERATION, *self._sampled)}
        own.update({name: given[name] for name in own if name in given})
        own["logprobs"] = _likely(own.pop("logprobs", False), own.pop("top_logprobs", None))
        choice = choice_of(given, self.expert)
        # A tuple is made of it there, or it is refused.
        return GenerationOptions(**own, stop=stops or ()), choice  # type: ignore[arg-type]

    def _trace(self, params: LangSmithParams, given: Mapping[str, Any]) -> None:
        """Complete LangSmith's standard parameters by the values of this call."""
        params["ls_provider"] = "t2agent"
        params["ls_model_name"] = given.get("model", self.t2.name)
        params["ls_temperature"] = given.get("temperature", self.temperature)
        params["ls_max_tokens"] = given.get("max_tokens", self.max_tokens)


def _likely(told: object, top: object) -> Any:
    """How many likely tokens are told for each place, of LangChain's two options, of which the
    second implies the first; None for no probabilities."""
    if not isinstance(told, bool):
        raise ConfigError(f"logprobs is {told!r:.40}; give True or False")
    return top if top is not None else 0 if told else None


def choice_of(given: Mapping[str, Any], expert: Expert | str | None) -> Choice:
    """Who answers a call: what its options say, else the expert that answers all; None where the
    dispatcher decides. Raises ConfigError where the options say it twice."""
    chosen = [name for name in CHOICE if name in given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} were given: give one of them")
    if not chosen:
        return None if expert is None else Given(expert)
    choice = given[chosen[0]]
    if chosen != ["dispatch"]:
        return Given(choice)
    return "off" if choice is None else choice


def metadata(
    answer: Answer,
    model: str,
    *,
    called: bool = False,
    tools: Shortlist | None = None,
    misfits: Sequence[str] = (),
    logprobs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a reply's response_metadata holds: `Answer.to_dict` but for text and usage, which stand
    elsewhere in a message. ``called``: the reply calls tools. ``tools``: those on offer.
    ``misfits``: what does not fit its schema, and why. ``logprobs``: of its tokens."""
    facts = answer.to_dict()
    del facts["text"], facts["usage"]
    if called and facts["finish_reason"] == "stop":
        facts["finish_reason"] = "tool_calls"
    if tools is not None and tools.offered:
        facts["tools"] = tools.to_dict()
    if misfits:
        facts["misfits"] = list(misfits)
    if logprobs is not None:
        facts["logprobs"] = logprobs
    return {"model_name": model, **facts}


def usage(answer: Answer) -> UsageMetadata:
    """The tokens that an answer took."""
    tokens: UsageMetadata = answer.to_dict()["usage"]
    return tokens


def digests(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a call for a cache's key: experts and base models by their content, dispatchers
    by their versions."""

    def digest(name: str, value: Any) -> Any:
        if isinstance(value, Expert):
            return value.name, value.answering()
        if isinstance(value, T2Model):
            return value.name, value.fingerprint
        known = name != "dispatch" or value is None or isinstance(value, str)
        return value if known else version_of(value)

    return {name: digest(name, value) for name, value in given.items()}
