"""What goes into a dispatcher and what comes out, and the question that strategies A and B ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.experts.mixture import Mixture
from t2agent.models.options import CountOrZero, check_option

CLASSIFIER = "classifier"
"""The name of the expert that answers category questions (strategy B); no request goes to it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a dispatcher sees of a request: its text and how many images come with it.

    ``tools``: those that may be called to answer it, as OpenAI's function tools. ``called``: where
    a tool's result came last, the calls since the request, {"name", "arguments"}. ``json``: whether
    the reply must be JSON.

    Raises:
        ConfigError: the text is no string, the number of images not a whole number >= 0, or tools
            or calls are no tuple.
    """

    text: str
    images: int = 0
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    called: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    json: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ConfigError(f"text is a {type(self.text).__name__}; give a string")
        if not isinstance(self.tools, tuple):
            raise ConfigError(f"tools is a {type(self.tools).__name__}; give a tuple of tools")
        if not isinstance(self.called, tuple):
            raise ConfigError(f"called is a {type(self.called).__name__}; give a tuple of calls")
        check_option("images", self.images, CountOrZero)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which mixture answers a request, and why.

    ``mixture`` is empty where the base model answers. ``strategy`` names the dispatcher.
    ``scores`` holds, for each expert that could have been chosen, its probability. ``in_scope``
    tells whether the request is one that the experts are meant for. ``seconds`` is the time that
    the decision took; of requests that were dispatched together, each bears an equal share.
    ``gate`` and ``threshold``, where a gate was asked: the request is in scope if the one is at
    least the other.
    """

    mixture: Mixture
    strategy: str
    scores: Mapping[str, float] = field(default_factory=dict)
    in_scope: bool = True
    seconds: float = 0.0
    gate: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        scores = {name: float(score) for name, score in self.scores.items()}
        if not all(math.isfinite(score) for score in scores.values()):
            raise ConfigError(f"scores are {scores}; each must be a finite number")
        for key in ("gate", "threshold"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{key} is {value}; give a finite number, or None without a gate")
        object.__setattr__(self, "scores", MappingProxyType(scores))

    def __hash__(self) -> int:
        scores = frozenset(self.scores.items())
        return hash((self.mixture, self.strategy, scores, *self._rest()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Decision, (self.mixture, self.strategy, dict(self.scores), *self._rest())

    def _rest(self) -> tuple[Any, ...]:
        return self.in_scope, self.seconds, self.gate, self.threshold

    def to_dict(self) -> dict[str, Any]:
        """The decision in plain JSON."""
        return {
            "mixture": self.mixture.to_dict(),
            "strategy": self.strategy,
            "scores": dict(self.scores),
            "in_scope": self.in_scope,
            "seconds": self.seconds,
            "gate": self.gate,
            "threshold": self.threshold,
        }


@dataclass(frozen=True, slots=True)
class Adapted:
    """A mixture that was found for a task (strategy C), and the card of the task."""

    mixture: Mixture
    card: ExpertCard


@dataclass(slots=True)
class Latest:
    """Holds the latest mixture that was found for a task without a name."""

    found: Adapted | None = None


@runtime_checkable
class Dispatcher(Protocol):
    """Anything that turns requests into decisions, one for each, in their order.

    It may tell more, which is asked for where it is there: a method ``wants_tools`` (`ToolAware`),
    and a string ``version`` that changes with whatever changes its decisions, besides the
    registry. Answers in LangChain's caches are kept by that version; without one, they are found
    again by the same object alone.
    """

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide on each request."""
        ...


@runtime_checkable
class ToolAware(Protocol):
    """A dispatcher that can tell whether a request wants one of the tools on offer.

    With one that cannot, nobody knows: then each request may want them.
    """

    def wants_tools(self, request: Request) -> bool:
        """Whether one of ``request.tools`` is meant, rather than an answer without them.

        It is asked where the model may choose. Where it is False, and a model is shown but a few
        of the tools that are bound (``max_tools`` of `t2agent.ChatT2`), it is shown none.
        """
        ...


@runtime_checkable
class ForExperts(Protocol):
    """A dispatcher that may be made before it is known which experts there are."""

    def among(self, experts: Any) -> Dispatcher:
        """The same for these experts (`t2agent.dispatch.labels.Experts`); itself where it has its
        own."""
        ...


OTHERS = "others"
"""The answer where no category fits: the base model shall answer."""


def category_question(request: Request, names: Sequence[str]) -> str:
    """Ask which of the categories a request belongs to; the reply wanted is its bare name.

    Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3, prompt-based adaptation. Deviation:
    the categories are the names of the experts at hand, and what comes before the request is the
    same for every request.
    """
    kind = "Request with an image" if request.images else "Request"
    return f"Which kind of request is this: {', '.join(names)} or {OTHERS}?\n{kind}: {request.text}"
