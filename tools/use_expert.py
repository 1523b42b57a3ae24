"""use_expert: the expert of a name answers from the next step on, until the user speaks again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from langchain.tools import InjectedState
from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool
from t2agent.toolbox.experts import DECISIONS, USE_EXPERT, naming, registry_of, with_names


class UseExpertArguments(Arguments):
    """What use_expert takes."""

    name: Annotated[Text, Field(description="of the expert")]
    # Any: pydantic would copy the state.
    state: Annotated[Any, InjectedState()] = Field(default=None)


def make(chat: Any) -> BaseTool:
    """The tool. It needs an agent with `t2agent.T2Middleware`, as `create_t2_agent` makes them.

    Args:
        chat: a `ChatT2`, or another model with a ``registry``; a `Registry` alone does, too.

    Raises:
        ConfigError: it has no registry.
    """
    registry = registry_of(chat, USE_EXPERT, "card")

    def use_expert(name: str, state: object) -> tuple[str, dict[str, str]]:
        card = registry.card(name.strip())  # its error lists the names
        if not (isinstance(state, Mapping) and DECISIONS in state):
            raise ToolException(
                "this agent cannot change its expert, since it has no T2Middleware: go on without"
            )
        return f"The expert {card.name} answers from now on.", naming(card.name)

    return content_tool(
        USE_EXPERT,
        "Lets an expert answer from now on.",
        with_names(UseExpertArguments, registry),
        use_expert,
        artifact=True,
    )
