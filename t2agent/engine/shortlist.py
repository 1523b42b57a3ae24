"""Which of the bound tools a request shows.

Dozens of tools fill the context of a small model, and it loses its way among them. Where a most is
given, they are ranked by the sentence encoder of dispatch (`t2agent.dispatch.tool_offers`), and
only the best are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option, needs
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import asking, text_of

Tool = Mapping[str, Any]

_Most = Annotated[Count | None, needs("a whole number of at least 1, None or 'auto'")]


def most_tools(model: T2Model, given: object) -> int | None:
    """How many tools are shown to a model; None for all.

    given: a user's option, where "auto" is what the base model asks for: ``max_tools`` under
    "t2agent" in its config.json, else all.

    Raises ConfigError for another value.
    """
    most: Any = model.asks.get("max_tools") if given == "auto" else given
    check_option("max_tools", most, _Most)
    return most if most is None else int(most)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The tools that are shown for a request.

    Attributes:
        shown: the tools.
        offered: how many were bound.
        scores: name -> how well the tool fits the request, a cosine; empty where nothing was
            ranked.
    """

    shown: tuple[Tool, ...] = ()
    offered: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, for a reply's metadata."""
        shown = [_name(tool) for tool in self.shown]
        return {"offered": self.offered, "shown": shown, "scores": dict(self.scores)}


def shortlist(
    prompt: Prompt,
    most: int | None,
    similarity: ToolSimilarity,
    *,
    named: str | None = None,
    wanted: Callable[[], bool] | None = None,
) -> Shortlist:
    """Choose among the tools of a prompt.

    most: how many are shown; None for all. Those that were called since the request stay besides.
    named: the tool that must be called, if any. wanted: whether a tool is meant, where none need
    be; None where one must be called.
    """
    tools = prompt.tools
    if most is None:
        return Shortlist(tools, len(tools))
    request, called = _since_request(prompt)
    if wanted is not None and not called and not wanted():
        return Shortlist((), len(tools))
    if named is not None:
        return Shortlist(_alone(tools, named), len(tools))
    if len(tools) <= most:
        return Shortlist(tools, len(tools))
    scores = dict(zip(map(_name, tools), similarity.of(request, tools), strict=True))
    rest = sorted(scores.keys() - called, key=lambda name: -scores[name])
    kept = called.union(rest[:most])
    return Shortlist(tuple(tool for tool in tools if _name(tool) in kept), len(tools), scores)


def foreseen(
    tools: tuple[Tool, ...], most: int | None, named: str | None
) -> tuple[Tool, ...] | None:
    """What requests will show of these tools; None where it depends on the request.

    named: the tool that must be called, if any.
    """
    if most is None or (named is None and len(tools) <= most):
        return tools
    return None if named is None else _alone(tools, named)


def _alone(tools: tuple[Tool, ...], name: str) -> tuple[Tool, ...]:
    return tuple(tool for tool in tools if _name(tool) == name)


def _since_request(prompt: Prompt) -> tuple[str, set[str]]:
    """The text of the last request, and the names of the tools that were called since."""
    since = prompt.messages[asking(prompt.messages) :]
    calls = [call for message in since for call in message.get("tool_calls") or ()]
    texts = [text_of(message) for message in since if message["role"] in ("user", "tool")]
    return texts[0] if texts else "", {call["function"]["name"] for call in calls}


def _name(tool: Tool) -> str:
    return str(tool["function"]["name"])
