"""list_experts: the experts of a chat model, with what each is for."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool

from t2agent.toolbox.content import Arguments, content_tool
from t2agent.toolbox.experts import registry_of

_DESCRIPTION = 200


class ListExpertsArguments(Arguments):
    """list_experts takes nothing."""


def make(chat: Any) -> BaseTool:
    """The tool.

    Args:
        chat: a `ChatT2`, or another model with a ``registry``; a `Registry` alone does, too.

    Raises:
        ConfigError: it has no registry.
    """
    registry = registry_of(chat, "list_experts", "cards")

    def list_experts() -> str:
        lines = [
            f"{name} ({card.modality}): {' '.join(card.description.split())[:_DESCRIPTION]}"
            for name, card in registry.cards().items()
        ]
        return "\n".join(lines) or "There are no experts."

    return content_tool(
        "list_experts",
        "Lists the experts that can be asked.",
        ListExpertsArguments,
        list_experts,
    )
