"""LangChain messages to prompts, and to the form of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from PIL.Image import Image

from t2agent.errors import ConfigError
from t2agent.images import ImagePolicy, data_url, holds_image, is_image_block, read_image
from t2agent.models.generate import Prompt
from t2agent.models.prompt import as_unicode
from t2agent.replies.messages import Message, TakeImage, read_message, text_of
from t2agent.toolbox.images import image_block

_ROLES: dict[type[BaseMessage], str] = {
    HumanMessage: "user",
    AIMessage: "assistant",
    SystemMessage: "system",
    ToolMessage: "tool",
    FunctionMessage: "tool",
}


def user_message(text: str, image: Image | None = None) -> HumanMessage:
    """A user's message: an image, if given, and then the text."""
    blocks: list[str | dict[str, Any]] = [] if image is None else [dict(image_block(image))]
    return HumanMessage([*blocks, {"type": "text", "text": text}])


def with_images(messages: Sequence[BaseMessage], policy: ImagePolicy) -> list[BaseMessage]:
    """The messages with images that they only name in their place, each read once.

    For LangChain's caches, whose keys hold the messages: a file may change. Raises as `read_image`.
    """

    def held(block: Any) -> Any:
        named = isinstance(block, Mapping) and is_image_block(block) and not holds_image(block)
        return {"type": "image", "url": data_url(block, policy)} if named else block

    return [
        message
        if isinstance(message.content, str)
        else message.model_copy(update={"content": [held(block) for block in message.content]})
        for message in messages
    ]


def to_prompt(messages: Sequence[BaseMessage], policy: ImagePolicy) -> Prompt:
    """The conversation as a prompt; an earlier answer's tool calls in Hugging Face's form.

    Raises ImageRefusedError as `read_image`, ModalityError for content that is neither text nor
    an image, and ConfigError for no message at all, one that is none of a conversation, or a text
    that is no string or not Unicode.
    """
    images: list[Image] = []

    def keep(block: Mapping[str, Any]) -> dict[str, Any]:
        images.append(read_image(block, policy))
        return {"type": "image"}

    return Prompt(_converted(messages, keep), tuple(images))


def to_openai(messages: Sequence[BaseMessage], policy: ImagePolicy) -> list[dict[str, Any]]:
    """The conversation in the form of OpenAI's API, with every image in it as a data: URL.

    Contents of text alone are strings, which every endpoint takes. Raises as `to_prompt`.
    """

    def embed(block: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": data_url(block, policy)}}

    return [_for_openai(message) for message in _converted(messages, embed)]


def _for_openai(message: dict[str, Any]) -> dict[str, Any]:
    parts = message["content"]
    if all(part["type"] == "text" for part in parts):
        message = {**message, "content": "".join(part["text"] for part in parts)}
    as_unicode(text_of(message))
    if not (calls := message.get("tool_calls")):
        return message
    written = [
        {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}
        for call in calls
        for function in (call["function"],)
    ]
    return {**message, "content": message["content"] or None, "tool_calls": written}


def _converted(messages: Sequence[BaseMessage], take: TakeImage) -> tuple[Message, ...]:
    if not messages:
        raise ConfigError("no message was given: give at least one, of the user")
    return tuple(_message(message, take) for message in messages)


def _message(message: BaseMessage, take: TakeImage) -> Message:
    # Blocks as they were given: an image is read from any of its forms, and content_blocks wraps
    # those that LangChain does not know.
    given: dict[str, Any] = {"role": _role(message), "content": message.content}
    if isinstance(message, AIMessage):
        given["tool_calls"] = [
            {"id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        given["tool_call_id"] = message.tool_call_id
    if isinstance(message, ToolMessage | FunctionMessage):
        given["name"] = message.name or None
    return read_message(given, take)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    for kind, role in _ROLES.items():
        if isinstance(message, kind):
            return role
    raise ConfigError(
        f"a {type(message).__name__} was given, which is no message of a conversation: give "
        "human, AI, system or tool messages"
    )
