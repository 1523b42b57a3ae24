"""ask_expert: a request answered by the expert of a name."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.errors import ConfigError
from t2agent.toolbox.content import MAX_TEXT, Text, content_tool
from t2agent.toolbox.experts import with_names
from t2agent.toolbox.images import ConversationArguments, last_block


class AskExpertArguments(ConversationArguments):
    """What ask_expert takes. An expert for images gets the conversation's last one."""

    name: Annotated[Text, Field(description="of the expert")]
    request: Annotated[Text, Field(description="what it is asked")]


def make(chat: Any) -> BaseTool:
    """The tool.

    Args:
        chat: a `ChatT2`, or another model with a ``registry`` whose ``invoke`` and ``ainvoke``
            take ``expert=name``. It reads images by its own settings.

    Raises:
        ConfigError: it has no registry or cannot be invoked.
    """
    registry = getattr(chat, "registry", None)
    if not (hasattr(registry, "cards") and callable(getattr(chat, "invoke", None))):
        raise ConfigError(
            f"ask_expert got a {type(chat).__name__} as chat, which has no experts to ask: give a "
            "ChatT2"
        )

    def prepared(name: str, request: str, messages: object) -> tuple[str, list[BaseMessage]]:
        name = name.strip()
        card = chat.registry.card(name)  # its error lists the names
        if not request.strip():
            raise ToolException("the request is empty: say what the expert is asked")
        if card.modality == "text":
            return name, [HumanMessage(request)]
        block = last_block(messages)
        if block is None:
            raise ToolException(
                f"the expert {name!r} is for images, and there is none in the conversation: ask "
                "the user for one, or another expert"
            )
        return name, [HumanMessage([dict(block), {"type": "text", "text": request}])]

    def ask_expert(name: str, request: str, messages: object) -> str:
        name, asked = prepared(name, request, messages)
        return _text(chat.invoke(asked, expert=name))

    async def ask_expert_async(name: str, request: str, messages: object) -> str:
        name, asked = prepared(name, request, messages)
        return _text(await chat.ainvoke(asked, expert=name))

    return content_tool(
        "ask_expert",
        "Asks an expert by name.",
        with_names(AskExpertArguments, chat.registry),
        ask_expert,
        coroutine=ask_expert_async,
    )


def _text(reply: BaseMessage) -> str:
    return str(reply.text)[:MAX_TEXT]
