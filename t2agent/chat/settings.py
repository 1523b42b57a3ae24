"""What ChatT2 and T2LLM have in common: their fields, their engine, and options of one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages.ai import UsageMetadata
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from t2agent.engine.shortlist import Shortlist
from t2agent.engine.threads import give_back_threads, giving_back_threads
from t2agent.engine.two_passes import Answer, Choice, Engine, Given
from t2agent.errors import ConfigError, NotCopyableError
from t2agent.experts.expert import Expert
from t2agent.experts.registry import Registry
from t2agent.images import ImagePolicy
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions

T = TypeVar("T")

_GENERATION = ("max_tokens", "temperature", "top_p", "seed")
CHOICE = ("expert", "mixture", "dispatch")
"""The options of a call that say who answers; one of them at a time."""
LANGCHAIN = frozenset({"stream", "stream_usage", "ls_structured_output_format"})
"""What LangChain itself passes down and the model need not know."""
# LangChain's standard parameters of remote models: accepted, and without a meaning here.
_REMOTE = frozenset({"api_key", "base_url", "timeout", "max_retries"})


class Settings(BaseModel):
    """The model is loaded, and everything checked, when an object is made.

    Raises ConfigError for an unknown model or strategy and for options out of range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", populate_by_name=True)

    model: Any = "t2-nano"
    """A base model's name or path, or a T2Model."""
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
    stop: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    seed: int | None = None
    device_map: Any = None
    dtype: Any = "auto"
    allow_image_urls: bool = False
    """Whether images are fetched from http(s) addresses that a message names."""
    allow_image_files: bool = False
    """Whether images are read from paths that a message names."""
    streaming: bool = False
    """Whether `invoke` streams inside, for callbacks that want to see each piece."""

    engine: Engine = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """What dispatches and answers; made from ``model``, ``dispatch`` and ``experts``. LangChain's
    configurable fields make a copy of this object for each call, which takes it over."""

    _more: ClassVar[tuple[str, ...]] = ()
    """Fields of a subclass that a call may override, too, and that its answer depends on."""
    _others: dict[str, Self] = PrivateAttr(default_factory=dict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, model: T2Model | str = "t2-nano", **fields: Any) -> None:
        own = {name: value for name, value in fields.items() if name not in _REMOTE}
        try:
            super().__init__(model=model, **own)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"])) or type(self).__name__
            raise ConfigError(f"{name}: {wrong['msg']}; got {wrong.get('input')!r}") from error
        self._options(None, {})
        known: Engine | None = self.engine
        if known is not None and known.serves(self.model, self.experts):
            self.engine = known.dispatching(self.dispatch)
            return
        if not isinstance(self.model, T2Model):
            self.model = T2Model.from_pretrained(
                self.model, device_map=self.device_map, dtype=self.dtype
            )
        self.engine = Engine(self.model, self.dispatch, experts=self.experts)
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
    def _policy(self) -> ImagePolicy:
        return ImagePolicy(allow_files=self.allow_image_files, allow_urls=self.allow_image_urls)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Whatever an answer depends on: LangChain's cache takes its key from here."""
        return {
            "model_name": self.t2.name,
            "base_fingerprint": self.t2.fingerprint,
            "registry_fingerprint": self.registry.fingerprint,
            "dispatch": self.engine.version(),
            **digests({n: getattr(self, n) for n in (*_GENERATION, *self._more, "stop", "expert")}),
        }

    def other(self, model: T2Model | str) -> Self:
        """The same with another base model, which is loaded once and kept: a call's ``model``."""
        if model is self.model or model == self.t2.name:
            return self
        with self._lock:
            key = model if isinstance(model, str) else str(id(model))
            if key not in self._others:
                own = {name: getattr(self, name) for name in type(self).model_fields}
                del own["engine"]
                self._others[key] = type(self)(**{**own, "model": model, "profile": None})
            return self._others[key]

    def __deepcopy__(self, memo: Any = None) -> Self:
        raise self._kept_here("copied deeply", "copy.copy or model_copy, which share the model")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self._kept_here("pickled", "the arguments, and make a new one from them elsewhere")

    def _kept_here(self, what: str, instead: str) -> NotCopyableError:
        return NotCopyableError(
            f"a {type(self).__name__} cannot be {what}: it holds a loaded base model with its "
            f"experts; use {instead}"
        )

    def _options(
        self, stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> tuple[GenerationOptions, Any]:
        """The options and the choice of one call: its own before the object's."""
        unknown = set(given) - {*_GENERATION, *CHOICE, *self._more, *LANGCHAIN}
        if unknown:
            raise ConfigError(
                f"unknown option(s) {', '.join(sorted(unknown))}: a call takes stop, "
                f"{', '.join((*_GENERATION, *CHOICE, *self._more))}"
            )
        stops = self.stop if stop is None else stop
        if isinstance(stops, str):
            stops = [stops]
        own = {name: getattr(self, name) for name in _GENERATION}
        own.update({name: given[name] for name in _GENERATION if name in given})
        choice = choice_of(given, self.expert)
        # A tuple is made of it there, or it is refused.
        return GenerationOptions(**own, stop=stops or ()), choice  # type: ignore[arg-type]

    def _trace(self, params: LangSmithParams, given: Mapping[str, Any]) -> None:
        """Complete LangSmith's standard parameters by the values of this call."""
        params["ls_provider"] = "t2agent"
        params["ls_model_name"] = given.get("model", self.t2.name)
        params["ls_temperature"] = given.get("temperature", self.temperature)
        params["ls_max_tokens"] = given.get("max_tokens", self.max_tokens)


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
) -> dict[str, Any]:
    """What a reply's response_metadata holds; plain JSON. ``called``: the reply calls tools.
    ``tools``: those that were on offer. ``misfits``: what does not fit its schema, and why.

    "seconds" is the time of the second pass, beside "dispatch"'s "seconds", that of the first.
    """
    reason = answer.generation.finish_reason
    return {
        "model_name": model,
        "finish_reason": "tool_calls" if called and reason == "stop" else reason,
        "dispatch": answer.decision.to_dict(),
        "seconds": answer.seconds,
        "first_pass_share": answer.first_pass_share,
        **({} if tools is None or not tools.offered else {"tools": tools.to_dict()}),
        **({"misfits": list(misfits)} if misfits else {}),
    }


def usage(answer: Answer) -> UsageMetadata:
    """The tokens that an answer took."""
    prompt, completion = answer.generation.prompt_tokens, answer.generation.completion_tokens
    return UsageMetadata(
        input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion
    )


def digests(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a call for a cache's key: experts by their content."""
    return {
        name: (value.name, value.digest()) if isinstance(value, Expert) else value
        for name, value in given.items()
    }


async def in_thread(call: Callable[[threading.Event], T]) -> T:
    """Run `call` in a thread; its event is set when the awaiting task is cancelled."""
    cancel = threading.Event()
    try:
        return await asyncio.to_thread(giving_back_threads(call), cancel)
    finally:
        cancel.set()
