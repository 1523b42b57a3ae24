from __future__ import annotations

from collections.abc import Callable

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from t2agent.nano.words import COLOURS

Text = Callable[..., str]
Message = Callable[[Image.Image], HumanMessage]


def test_a_point(ok: Text, picture: Image.Image, with_image: Message) -> None:
    messages = [with_image(picture)]
    left = ok("measure_colour", {"x": 0, "y": 5}, messages=messages)
    assert left == "red (red 205, green 35, blue 35)"
    assert ok("measure_colour", {"x": 7, "y": 0}, messages=messages).startswith("blue (")


@pytest.mark.parametrize(("x", "y"), [(8, 0), (0, 6), (-1, 0), (10**400, 0), (0, -(10**400))])
def test_outside(refused: Text, picture: Image.Image, with_image: Message, x: int, y: int) -> None:
    told = refused("measure_colour", {"x": x, "y": y}, messages=[with_image(picture)])
    assert "x from 0 to 7 and y from 0 to 5" in told


NAMED = {
    "white": (250, 250, 252), "grey": (100, 102, 98), "yellow": (250, 230, 20),
    "pink": (255, 192, 203), "brown": (139, 69, 19), "turquoise": (64, 224, 208),
    "light blue": (173, 216, 230), "magenta": (250, 20, 240), "beige": (245, 245, 220),
}  # fmt: skip


@pytest.mark.parametrize(("name", "colour"), [*COLOURS.items(), *NAMED.items()])
def test_names(ok: Text, with_image: Message, name: str, colour: tuple[int, int, int]) -> None:
    messages = [with_image(Image.new("RGB", (1, 1), colour))]
    assert ok("measure_colour", {"x": 0, "y": 0}, messages=messages).startswith(f"{name} (")


def test_no_image(refused: Text) -> None:
    assert "no image" in refused("measure_colour", {"x": 0, "y": 0})
