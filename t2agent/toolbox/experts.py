"""Naming an expert in a call, and what the tool ``use_expert`` leaves in a conversation.

Nothing is kept besides the messages: the tool's answer names the expert, and whoever makes the
next model call (`t2agent.chat.agent.T2Middleware`) finds it there. It holds until the user speaks
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from pydantic import Field, WithJsonSchema, create_model

from t2agent.errors import ConfigError
from t2agent.toolbox.content import Arguments, Text

A = TypeVar("A", bound=Arguments)

USE_EXPERT = "use_expert"
"""The tool's name."""
DECISIONS = "t2_decisions"
"""Where the middleware keeps its decisions in an agent's state; without it nobody listens."""


def registry_of(chat: Any, tool: str, method: str) -> Any:
    """The registry of a chat model, or what is one itself: it has the method that a tool needs.

    Raises ConfigError, in the tool's name, where there is none.
    """
    registry = getattr(chat, "registry", chat)
    if not callable(getattr(registry, method, None)):
        raise ConfigError(
            f"{tool} got a {type(chat).__name__} as chat, which has no experts: give a ChatT2 or a "
            "Registry"
        )
    return registry


def with_names(arguments: type[A], registry: Any) -> type[A]:
    """The arguments with the registry's experts, as of now, as what ``name`` may be.

    A grammar then lets a model write no other name. Whether the expert is there when it is asked
    is for the tool to check.
    """
    names = list(registry.cards())
    if not names:
        return arguments
    # In the type: what a Field adds to a schema is lost where LangChain leaves out the arguments
    # that models do not set.
    schema = WithJsonSchema({"type": "string", "enum": names})
    named = Annotated[Text, schema, Field(description="of the expert")]
    made = create_model(arguments.__name__, __base__=arguments, name=(named, ...))
    made.__doc__ = arguments.__doc__
    return made


def naming(expert: str) -> dict[str, str]:
    """What the tool leaves as its artifact."""
    return {"expert": expert}


def asked_for(messages: Sequence[Any]) -> str | None:
    """The expert that was last asked for since the user spoke, or None."""
    for message in since_user(messages):
        if (
            isinstance(message, ToolMessage)
            and message.name == USE_EXPERT
            and message.status == "success"
            and isinstance(message.artifact, Mapping)
        ):
            return str(message.artifact["expert"])
    return None


def since_user(messages: Sequence[Any]) -> list[BaseMessage]:
    """The messages since the user last spoke, the latest first."""
    found: list[BaseMessage] = []
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        found.append(message)
    return found
