"""Reading a user's examples from a JSON-lines file, images included."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.errors import ConfigError
from t2agent.train.task import Example

if TYPE_CHECKING:
    import PIL.Image

MAX_IMAGE_BYTES = 20 * 2**20
"""A larger image file is refused."""

MAX_IMAGE_PIXELS = 40_000_000
"""An image with more pixels is refused before it is decoded."""

_NEEDED = 'needed {"prompt": string, "answer": string} and optionally "image": path'


def read_examples(path: Path) -> list[Example]:
    """The examples of a file, one JSON object a line; images are decoded to RGB.

    Raises:
        ConfigError: the file cannot be read or a line is bad; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the examples in {path}: {error.strerror or error}; "
            "give the path of a JSON-lines file"
        ) from error
    examples = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                examples.append(_example(line, path.parent))
            except ConfigError as error:
                raise ConfigError(f"{path.name}, line {number}: {error}") from error
    if not examples:
        raise ConfigError(f"{path} holds no examples; each line {_NEEDED}")
    return examples


def _example(line: bytes, folder: Path) -> Example:
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not a JSON object in UTF-8 ({error}); {_NEEDED}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"got JSON of type {type(fields).__name__}; {_NEEDED}")
    image = fields.get("image")
    return Example(
        _text(fields, "prompt"),
        _text(fields, "answer"),
        None if image is None else _image(image, folder),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise ConfigError(f"no {name!r} among the fields {sorted(fields)}; {_NEEDED}")
    value = fields[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is {value!r}, not a string; {_NEEDED}")
    return value


def _image(name: object, folder: Path) -> PIL.Image.Image:
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
