"""Small images, and for every patch of them what it shows.

An image is 64 x 64 pixels; a patch is 8 x 8. The labels serve the dense stage of pretraining
(``pretrain.py``): a vision tower that has to name every patch learns to see in minutes, where
training through the language model alone stalls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from t2agent.nano.words import COLOURS, SHAPES

SIZE = 64
"""Width and height of an image, in pixels."""
PATCH = 8
"""Width and height of a patch, in pixels."""
UNIT = PATCH
"""Height of one unit of a bar, in pixels."""

_BAR = 11
KINDS = 12 + len(SHAPES)
"""Labels of a patch's content: 0 nothing, 1 to 10 the digits 0 to 9, 11 a bar, then shapes."""
TONES = 1 + len(COLOURS)
"""Labels of a patch's colour: 0 nothing, then the colours in the order of ``COLOURS``."""
_MIN_INK = 4  # pixels of a mark in a patch before the patch counts as showing it


@dataclass(frozen=True, slots=True)
class Mark:
    """A digit, a bar or a shape. ``x``, ``y``: its upper left corner; ``size``: a digit's font
    size, a bar's height, a shape's width and height."""

    what: str
    colour: str
    x: int
    y: int
    size: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What an image shows: a light background (grey level, 0 to 255) and marks on it."""

    background: int
    marks: tuple[Mark, ...]

    def render(self) -> Image.Image:
        """The image: RGB, 64 x 64."""
        return render(self)[0]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@cache
def digit_width(size: int) -> int:
    """How far the next digit starts to the right of a digit of this font size, in pixels."""
    return round(_font(size).getlength("0")) + 1


def _mask(mark: Mark) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(mask)
    if mark.what == "bar":
        pen.rectangle((mark.x, mark.y, mark.x + 9, mark.y + mark.size - 1), fill=255)
    elif mark.what in SHAPES:
        _draw_shape(pen, mark)
    else:
        pen.text((mark.x, mark.y), mark.what, fill=255, font=_font(mark.size))
    return mask


def _draw_shape(pen: ImageDraw.ImageDraw, mark: Mark) -> None:
    right, bottom = mark.x + mark.size - 1, mark.y + mark.size - 1
    match mark.what:
        case "circle":
            pen.ellipse((mark.x, mark.y, right, bottom), fill=255)
        case "square":
            pen.rectangle((mark.x, mark.y, right, bottom), fill=255)
        case _:
            top = (mark.x + mark.size // 2, mark.y)
            pen.polygon((top, (mark.x, bottom), (right, bottom)), fill=255)


def _label(what: str) -> int:
    if what == "bar":
        return _BAR
    return _BAR + 1 + SHAPES.index(what) if what in SHAPES else 1 + int(what)


def render(scene: Scene) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns the image (RGB, 64 x 64) and two arrays of 64 labels, patch by patch in reading
    order (int64): what the patch shows (``KINDS`` labels) and in which colour (``TONES``).
    """
    image = Image.new("RGB", (SIZE, SIZE), (scene.background,) * 3)
    tones = list(COLOURS)
    patches = SIZE // PATCH
    most = np.full((patches, patches), _MIN_INK - 1)
    what = np.zeros((patches, patches), np.int64)
    tone = np.zeros((patches, patches), np.int64)
    for mark in scene.marks:
        mask = _mask(mark)
        image.paste(COLOURS[mark.colour], mask=mask)
        ink = (np.asarray(mask) > 96).reshape(patches, PATCH, patches, PATCH).sum((1, 3))
        more = ink > most
        most[more] = ink[more]
        what[more] = _label(mark.what)
        tone[more] = 1 + tones.index(mark.colour)
    return image, what.reshape(-1), tone.reshape(-1)
