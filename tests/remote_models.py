"""What tests of ChatT2Remote have in common."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk
from PIL import Image

from t2agent.chat.remote import ChatT2Remote
from tests.openai_server import OpenAIServer

MATH = "What is 7 * 3 + 12?"
CODE = "Sort the list [4, 2, 9] in Python"
STRANGE = "Tell me about the weather in Rome"


def remote(server: OpenAIServer, **fields: Any) -> ChatT2Remote:
    """A chat model that asks a server."""
    return ChatT2Remote(**{"base_url": server.url, "max_tokens": 64, **fields})


def joined(chunks: Sequence[Any]) -> AIMessageChunk:
    """The message that chunks make."""
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def block(image: Image.Image) -> dict[str, str]:
    """An image as a content block."""
    written = io.BytesIO()
    image.save(written, "PNG")
    data = base64.b64encode(written.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}
