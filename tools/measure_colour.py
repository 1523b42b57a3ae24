"""measure_colour: the colour of a point of the conversation's last image, by name and number."""

from __future__ import annotations

import math
from typing import Annotated, cast

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.images import AllowedUrls, ImagePolicy
from t2agent.toolbox.content import content_tool, shown
from t2agent.toolbox.images import ImageArguments, last_image

RGB = tuple[int, int, int]

# Several of a name, where it stands for a wide range.
_NAMED: tuple[tuple[str, RGB], ...] = (
    ("black", (0, 0, 0)), ("black", (25, 25, 25)), ("white", (255, 255, 255)),
    ("white", (245, 245, 245)), ("grey", (128, 128, 128)), ("grey", (190, 190, 190)),
    ("grey", (70, 70, 70)), ("red", (255, 0, 0)), ("red", (205, 35, 35)), ("red", (150, 20, 20)),
    ("orange", (255, 140, 0)), ("orange", (235, 130, 20)), ("yellow", (255, 255, 0)),
    ("yellow", (235, 200, 40)), ("green", (0, 200, 0)), ("green", (25, 140, 50)),
    ("green", (0, 90, 0)), ("green", (150, 220, 120)), ("blue", (0, 0, 255)),
    ("blue", (35, 70, 205)), ("blue", (0, 0, 110)), ("blue", (90, 160, 230)),
    ("light blue", (170, 215, 245)), ("turquoise", (40, 200, 200)), ("turquoise", (0, 128, 128)),
    ("purple", (130, 45, 160)), ("purple", (90, 0, 130)), ("purple", (170, 120, 220)),
    ("pink", (255, 105, 180)), ("pink", (255, 180, 195)), ("magenta", (255, 0, 255)),
    ("brown", (120, 70, 20)), ("brown", (160, 95, 45)), ("beige", (235, 220, 185)),
    ("beige", (245, 245, 220)),
)  # fmt: skip


class MeasureColourArguments(ImageArguments):
    """What measure_colour takes, in pixels from the upper left corner."""

    x: Annotated[int, Field(description="column, from 0")]
    y: Annotated[int, Field(description="row, from 0")]


def make(*, allow_image_urls: AllowedUrls = False, allow_image_files: bool = False) -> BaseTool:
    """The tool; addresses and paths in messages are read only where they are allowed."""
    policy = ImagePolicy(allow_files=allow_image_files, allow_urls=allow_image_urls)

    def measure_colour(x: int, y: int, messages: object) -> str:
        image = last_image(messages, policy)
        if not (0 <= x < image.width and 0 <= y < image.height):
            raise ToolException(
                f"the image is {image.width} x {image.height} pixels, and the point {shown(x)}, "
                f"{shown(y)} is not inside: give x from 0 to {image.width - 1} and y from 0 to "
                f"{image.height - 1}"
            )
        colour = cast(RGB, image.getpixel((x, y)))  # read_image gives RGB images
        return f"{_name(colour)} (red {colour[0]}, green {colour[1]}, blue {colour[2]})"

    return content_tool(
        "measure_colour",
        "Measures the colour of a point of the image.",
        MeasureColourArguments,
        measure_colour,
    )


def _name(colour: RGB) -> str:
    """The name of the nearest colour, as eyes see distances (CIE 1976)."""
    seen = _lab(colour)
    return min(_NAMED, key=lambda named: math.dist(seen, _lab(named[1])))[0]


def _lab(colour: RGB) -> tuple[float, float, float]:
    """CIELAB of an sRGB colour in daylight (D65)."""
    red, green, blue = (
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in colour
    )
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (
        math.cbrt(part) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116
        for part in (x, y, z)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
