"""Which of the bound tools a request shows to a small model, and what it may fill in.

A model of a few million parameters chooses among tools that it has never seen no better than by
chance (measured on t2-nano), and small local models lose their way among dozens. So the tools are
ranked by the sentence encoder of dispatch (`t2agent.dispatch.tool_offers`), and only the best are
shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import StrictBool

from t2agent.dispatch.tool_offers import ToolSimilarity, calls_tools, offered_tools, signature
from t2agent.engine.argument_values import filled, held, numeric
from t2agent.experts.card import ExpertCard
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option, needs
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import asking, text_of

Tool = Mapping[str, Any]

_AT_ONCE = 4  # tools that an expert for tools has seen together
_AHEAD = 16  # tools for each of which a grammar is made before the first request

_Most = Annotated[Count | None, needs("a whole number of at least 1, None or 'auto'")]
_Copying = Annotated[StrictBool, needs("True, False or 'auto'")]


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """How tools are shown to a model.

    Attributes:
        most: how many of the tools are shown; None for all. Those that were called since the
            request stay besides.
        copying: whether the values of arguments are held to the texts of the conversation.
        known: the tools that an expert has learned, by their signatures: up to four of them are
            shown together, and strings among their arguments are free where they need not stand
            in the text.
    """

    most: int | None = None
    copying: bool = False
    known: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        model: T2Model,
        most: int | Literal["auto"] | None,
        copying: bool | Literal["auto"],
        known: frozenset[str],
    ) -> ToolPolicy:
        """From a user's options, where "auto" is what the base model asks for: ``max_tools`` and
        ``copy_arguments`` under "t2agent" in its config.json, else all tools and free values.

        Raises ConfigError for other values.
        """
        own = model.asks
        most = own.get("max_tools") if most == "auto" else most
        check_option("max_tools", most, _Most)
        copying = bool(own.get("copy_arguments")) if copying == "auto" else copying
        check_option("copy_arguments", copying, _Copying)
        return cls(most, copying, known)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The tools that are shown for a request.

    Attributes:
        shown: the tools, as they are bound.
        fillable: the same, with the values that their arguments may have.
        offered: how many were bound.
        scores: name -> how well the tool fits the request, a cosine; empty where nothing was
            ranked.
    """

    shown: tuple[Tool, ...] = ()
    fillable: tuple[Tool, ...] = ()
    offered: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, for a reply's metadata."""
        shown = [_name(tool) for tool in self.shown]
        return {"offered": self.offered, "shown": shown, "scores": dict(self.scores)}


def shortlist(
    prompt: Prompt,
    policy: ToolPolicy,
    similarity: ToolSimilarity,
    *,
    named: str | None = None,
    wanted: Callable[[], bool] | None = None,
) -> Shortlist:
    """Choose among the tools of a prompt.

    named: the tool that must be called, if any. wanted: whether a tool is meant, where none need
    be; None where one must be called.
    """
    tools = prompt.tools
    texts, called, images = _since_request(prompt)
    scores: dict[str, float] = {}
    shown = tools
    if policy.most is not None and wanted is not None and not called and not wanted():
        return Shortlist((), (), len(tools))
    if policy.most is not None and named is not None:
        shown = tuple(tool for tool in tools if _name(tool) == named)
    elif policy.most is not None and not _manageable(tools, policy):
        found = similarity.of(texts[0] if texts else "", tools)
        scores = dict(zip(map(_name, tools), found, strict=True))
        kept = {name for name in called if name in scores}
        rest = sorted(scores.keys() - kept, key=lambda name: -scores[name])
        kept |= set(rest[: policy.most])
        shown = tuple(tool for tool in tools if _name(tool) in kept)
    fillable = shown
    if policy.copying:
        # Of a tool that was learned, a text may be worked out of what a tool or an image shows.
        free = bool(called or images)
        fillable = tuple(_fillable(tool, texts, policy, similarity, free=free) for tool in shown)
    return Shortlist(shown, fillable, len(tools), scores)


def foreseen(
    tools: tuple[Tool, ...], policy: ToolPolicy, named: str | None
) -> Sequence[tuple[Tool, ...]]:
    """What requests will show of these tools, as far as it can be told before them.

    named: the tool that must be called, if any.
    """
    if policy.copying:
        return []
    if policy.most is None or (named is None and _manageable(tools, policy)):
        return [tools]
    if named is not None:
        return [tuple(tool for tool in tools if _name(tool) == named)]
    return [(tool,) for tool in tools] if policy.most == 1 and len(tools) <= _AHEAD else []


def _fillable(
    tool: Tool,
    texts: Sequence[str],
    policy: ToolPolicy,
    similarity: ToolSimilarity,
    *,
    free: bool,
) -> Tool:
    """The tool with the values that its arguments may have. free: texts of learned tools may be
    any; coordinates and the like are those of the request even so."""
    known = signature(tool) in policy.known
    if known and not (free and numeric(tool)):
        return held(tool, texts, strings=not free)
    found = filled(tool, texts, similarity.between)
    return held(tool, texts) if found is None else found


def known_tools(cards: Iterable[ExpertCard]) -> frozenset[str]:
    """The names of the tools that experts have learned, by the example requests on their cards."""
    return frozenset(
        name
        for card in cards
        if calls_tools(card.examples)
        for name in offered_tools(card.examples)
    )


def with_shown(prompt: Prompt, found: Shortlist) -> Prompt:
    """The prompt with the tools that are shown."""
    return replace(prompt, tools=found.shown)


def _manageable(tools: Sequence[Tool], policy: ToolPolicy) -> bool:
    most = policy.most or len(tools)
    return len(tools) <= most or (
        len(tools) <= _AT_ONCE and all(signature(tool) in policy.known for tool in tools)
    )


def _since_request(prompt: Prompt) -> tuple[list[str], list[str], bool]:
    """The texts of the last request and of what tools have returned since, the names of these
    tools, and whether the conversation shows images."""
    since = prompt.messages[asking(prompt.messages) :]
    calls = [call for message in since for call in message.get("tool_calls") or ()]
    called = [call["function"]["name"] for call in calls]
    texts = [text_of(message) for message in since if message["role"] in ("user", "tool")]
    return texts, called, bool(prompt.images)


def _name(tool: Tool) -> str:
    return str(tool["function"]["name"])
