"""Pictures as content blocks of messages."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image


def png(colour: str, size: tuple[int, int] = (64, 64)) -> str:
    """A PNG of one colour, in base64."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def image_block(colour: str) -> dict[str, Any]:
    """As LangChain v1 has it."""
    return {"type": "image", "base64": png(colour), "mime_type": "image/png"}


def forms(colour: str) -> dict[str, dict[str, Any]]:
    """The same picture in every form that is read."""
    data = png(colour)
    url = f"data:image/png;base64,{data}"
    return {
        "langchain": image_block(colour),
        "langchain url": {"type": "image", "url": url},
        "langchain v0": {
            "type": "image", "source_type": "base64", "data": data, "mime_type": "image/png"
        },
        "openai": {"type": "image_url", "image_url": {"url": url}},
        "openai with detail": {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        "openai as text": {"type": "image_url", "image_url": url},
        "anthropic": {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": data},
        },
        "anthropic url": {"type": "image", "source": {"type": "url", "url": url}},
    }  # fmt: skip


def serve_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is downloaded is a photo that was drawn here."""
    drawn = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 140, 60)).save(drawn, "JPEG")

    def get(url: str, **_options: Any) -> httpx.Response:
        return httpx.Response(200, content=drawn.getvalue(), request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
