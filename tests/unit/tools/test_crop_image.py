from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from PIL import Image

Call = Callable[..., ToolMessage]
Text = Callable[..., str]
Message = Callable[[Image.Image], HumanMessage]

HALF = {"left": 2, "top": 1, "right": 6, "bottom": 4}


def image_in(answer: ToolMessage) -> Image.Image:
    block: Any = answer.content[1]
    assert block["type"] == "image"
    assert block["mime_type"] == "image/png"
    return Image.open(io.BytesIO(base64.b64decode(block["base64"])))


def test_a_part(call: Call, picture: Image.Image, with_image: Message) -> None:
    answer = call("crop_image", HALF, messages=[with_image(picture)])
    assert answer.content[0] == {"type": "text", "text": "The part of the image, 4 x 3 pixels."}
    assert answer.artifact == {"width": 4, "height": 3}
    assert image_in(answer).tobytes() == picture.crop((2, 1, 6, 4)).tobytes()
    # The next call works on what this one gave.
    answer = call(
        "crop_image",
        {"left": 0, "top": 0, "right": 2, "bottom": 3},
        messages=[with_image(picture), answer],
    )
    assert image_in(answer).size == (2, 3)
    assert image_in(answer).getpixel((1, 1)) == (205, 35, 35)


@pytest.mark.parametrize(
    "change",
    [
        {"right": 9}, {"left": -1}, {"left": 6}, {"bottom": 1}, {"top": 10**9}, {"left": 10**400},
        {"right": -(10**400)},
    ],
)  # fmt: skip
def test_outside(
    refused: Text, picture: Image.Image, with_image: Message, change: dict[str, int]
) -> None:
    told = refused("crop_image", {**HALF, **change}, messages=[with_image(picture)])
    assert "the image is 8 x 6 pixels" in told


def test_too_large(refused: Text, with_image: Message) -> None:
    image = Image.new("RGB", (1500, 1400))
    box = {"left": 0, "top": 0, "right": 1500, "bottom": 1400}
    assert "2,000,000 are the most" in refused("crop_image", box, messages=[with_image(image)])


@pytest.mark.parametrize(
    "messages",
    [[], [HumanMessage("no image")], [HumanMessage([{"type": "text", "text": "image"}])]],
)
def test_no_image(refused: Text, messages: list[Any]) -> None:
    assert "no image in the conversation" in refused("crop_image", HALF, messages=messages)


def test_places_are_read_only_where_allowed(
    call: Call, refused: Text, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    messages = [HumanMessage([{"type": "image", "url": str(tmp_path / "a.png")}])]
    assert "allow_image_files=True" in refused("crop_image", HALF, messages=messages)
    answer = call("crop_image", HALF, messages=messages, allow_image_files=True)
    assert image_in(answer).size == (4, 3)
    messages = [HumanMessage([{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a"}}])]
    assert "allow_image_urls=True" in refused("crop_image", HALF, messages=messages)
    assert "cannot read" in refused("crop_image", HALF, messages=messages, allow_image_urls=True)


def test_a_damaged_image(refused: Text) -> None:
    messages = [HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}])]
    assert "not an image" in refused("crop_image", HALF, messages=messages)


def test_a_model_cannot_set_the_messages(
    call: Call, picture: Image.Image, with_image: Message
) -> None:
    forged = {**HALF, "messages": [{"type": "image", "url": "/etc/passwd"}]}
    assert call("crop_image", forged, messages=[with_image(picture)]).status == "success"
