from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from PIL import Image

Call = Callable[..., ToolMessage]
Text = Callable[..., str]
Message = Callable[[Image.Image], HumanMessage]


def test_larger(call: Call, picture: Image.Image, with_image: Message) -> None:
    answer = call("zoom_image", {"factor": 3}, messages=[with_image(picture)])
    text, block = answer.content
    assert text == {"type": "text", "text": "The image, 24 x 18 pixels."}
    assert isinstance(block, dict)
    larger = Image.open(io.BytesIO(base64.b64decode(block["base64"])))
    assert larger.size == (24, 18)
    assert larger.getpixel((2, 2)) == (205, 35, 35)
    assert larger.getpixel((22, 16)) == (35, 70, 205)
    assert answer.artifact == {"width": 24, "height": 18}


@pytest.mark.parametrize("factor", [1, 0, -3, 205, 10**9, 10**400])
def test_factors_that_are_refused(
    refused: Text, picture: Image.Image, with_image: Message, factor: int
) -> None:
    told = refused("zoom_image", {"factor": factor}, messages=[with_image(picture)])
    assert "from 2 to 204" in told


@pytest.mark.parametrize("factor", [1.5, "big", None])
def test_no_whole_number(refused: Text, factor: Any) -> None:
    assert "factor must be a whole number" in refused("zoom_image", {"factor": factor})


def test_an_image_that_is_large_already(refused: Text, with_image: Message) -> None:
    messages = [with_image(Image.new("RGB", (1000, 600)))]
    assert "cut out a part" in refused("zoom_image", {"factor": 2}, messages=messages)


def test_the_largest_result_is_made_in_a_second(call: Call, with_image: Message) -> None:
    image = Image.effect_noise((100, 100), 100).convert("RGB")
    answer = call("zoom_image", {"factor": 14}, messages=[with_image(image)])
    assert answer.artifact == {"width": 1400, "height": 1400}
