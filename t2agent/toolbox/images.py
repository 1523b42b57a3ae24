"""The image at hand: the last one of the conversation that a tool is called in.

A tool cannot see the conversation. LangGraph's tool node, and so `create_agent`, puts the
messages of its state into an argument that carries `InjectedState`; models neither see nor set
it. Outside of an agent they can be given by hand: ``tool.invoke({..., "messages": [...]})``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Annotated, Any

from langchain.tools import InjectedState
from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool, ToolException
from PIL import Image
from pydantic import Field

from t2agent.images import ImagePolicy, is_image_block, read_image
from t2agent.toolbox.content import Arguments

MAX_MADE_PIXELS = 2_000_000
"""Of an image that a tool gives: more is slow to encode, and models shrink it anyway."""

Content = tuple[list[dict[str, str]], dict[str, int]]
"""Content blocks, and as the artifact the image's size."""


class ConversationArguments(Arguments):
    """Arguments of a tool that looks into the conversation."""

    # Any: pydantic would copy the messages, and what a state holds is its owner's affair.
    messages: Annotated[Any, InjectedState("messages")] = Field(default=None)


class ImageArguments(ConversationArguments):
    """Arguments of a tool that works on the conversation's last image."""


def needs_image(tool: BaseTool) -> bool:
    """Whether a tool is of use only where conversations hold images."""
    arguments = tool.args_schema
    return isinstance(arguments, type) and issubclass(arguments, ImageArguments)


def last_block(messages: object) -> Mapping[str, Any] | None:
    """The content block of the last image in some messages, of whoever sent it."""
    for message in reversed(messages if isinstance(messages, list | tuple) else ()):
        content = message.content if isinstance(message, BaseMessage) else ()
        for block in reversed(content if isinstance(content, list) else ()):
            if isinstance(block, Mapping) and is_image_block(block):
                return block
    return None


def last_image(messages: object, policy: ImagePolicy) -> Image.Image:
    """The last image of a conversation.

    Raises ToolException where there is none, and ImageRefusedError as `read_image`.
    """
    block = last_block(messages)
    if block is None:
        raise ToolException(
            "there is no image in the conversation, and one is needed: ask the user for an image, "
            "or go on without this tool"
        )
    return read_image(block, policy)


def image_content(text: str, image: Image.Image) -> Content:
    """What a tool that makes an image gives: words, the image as PNG, and its size."""
    blocks = [{"type": "text", "text": text}, image_block(image)]
    return blocks, {"width": image.width, "height": image.height}


def image_block(image: Image.Image) -> dict[str, str]:
    """An image as a content block, PNG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}
