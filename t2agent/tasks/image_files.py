"""Reading the image files that lie beside a task's data, and none from elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    import PIL.Image

MAX_IMAGE_BYTES = 20 * 2**20
"""A larger image file is refused."""

MAX_IMAGE_PIXELS = 40_000_000
"""An image with more pixels is refused before it is decoded."""


def read_image(name: object, folder: Path) -> PIL.Image.Image:
    """The RGB image of a file in or below ``folder``, whose path in it is ``name``.

    Raises:
        ConfigError: ``name`` is no path or leads out of the folder, or the file is not there, too
            large or not an image.
    """
    if not isinstance(name, str):
        raise ConfigError(f"'image' is {name!r}; needed the path of an image file")
    root = folder.resolve()
    try:
        # Links are followed first, so that one cannot lead out of the folder.
        file = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the image {name!r} is not there; paths start at the file") from error
    if not file.is_relative_to(root) or not file.is_file():
        raise ConfigError(
            f"the image {name!r} is not a file in the examples' own folder; copy it there"
        )
    size = file.stat().st_size
    if size > MAX_IMAGE_BYTES:
        raise ConfigError(
            f"the image {name!r} has {size} bytes; at most {MAX_IMAGE_BYTES} are read: shrink it"
        )
    return _decode(file.read_bytes(), name)


def _decode(data: bytes, name: str) -> PIL.Image.Image:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_IMAGE_PIXELS:
                raise ConfigError(
                    f"the image {name!r} is {opened.width} x {opened.height} pixels; at most "
                    f"{MAX_IMAGE_PIXELS} are read: shrink it"
                )
            return opened.convert("RGB")
    except ConfigError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise ConfigError(
            f"the image {name!r} cannot be decoded ({error}); give a PNG or JPEG file"
        ) from error
