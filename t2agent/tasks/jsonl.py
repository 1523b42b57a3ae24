"""Reading a user's examples from a JSON-lines file, images included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError
from t2agent.tasks.image_files import read_image
from t2agent.tasks.task import Example

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
        None if image is None else read_image(image, folder),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise ConfigError(f"no {name!r} among the fields {sorted(fields)}; {_NEEDED}")
    value = fields[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is {value!r}, not a string; {_NEEDED}")
    return value
