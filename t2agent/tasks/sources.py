"""Where rows come from: JSON-lines files and data sets, read row by row when they are asked for.

The images that a file's rows name lie beside it, and none is read from elsewhere.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from t2agent.errors import ConfigError, ImageRefusedError

if TYPE_CHECKING:
    from PIL.Image import Image

_BOM = b"\xef\xbb\xbf"

Row = dict[str, Any]


class Rows(Protocol):
    """Rows by their positions."""

    name: str

    def __iter__(self) -> Iterator[tuple[int, str, Row]]:
        """Each row with its position, and its place in words."""

    def at(self, position: int) -> Row:
        """The row at a position."""

    def image(self, given: object) -> Image:
        """The image that a row holds or names. Raises ConfigError."""


class JsonLines:
    """The objects of a JSON-lines file; empty lines are passed over.

    A file whose name ends in .gz is unpacked into a temporary one, which goes with this object.
    None is held in memory: a row is read from the disk each time.

    needed: what a line must be, for errors.

    Raises ConfigError where the file cannot be read; while rows are read, also for a line that is
    no JSON object, and a file that has been changed.
    """

    def __init__(self, path: Path | str, needed: str) -> None:
        self.path, self._needed = Path(path), needed
        self.name = self.path.name
        self._unpacked: Any = None
        try:
            if self.path.suffix == ".gz":
                self._unpacked = tempfile.NamedTemporaryFile(suffix=".jsonl")  # noqa: SIM115
                with gzip.open(self.path) as packed:
                    shutil.copyfileobj(packed, self._unpacked)
                self._unpacked.flush()
            self._stamp: tuple[int, int] | None = None
            with self._open() as file:
                self._stamp = _stamp(file)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"cannot read the examples in {self.path}: {reason}; "
                "give the path of a JSON-lines file"
            ) from error

    def __iter__(self) -> Iterator[tuple[int, str, Row]]:
        with self._open() as file:
            position = 0
            for number, line in enumerate(file, start=1):
                if line.removeprefix(_BOM if number == 1 else b"").strip():
                    place = f"{self.path}, line {number}"
                    yield position, place, self._parsed(line, place)
                position += len(line)

    def at(self, position: int) -> Row:
        """The object that begins so many bytes after the file's beginning."""
        with self._open() as file:
            file.seek(position)
            return self._parsed(file.readline(), f"{self.path}, byte {position}")

    def image(self, given: object) -> Image:
        """The image of a file beside or below this one."""
        return image_in(self.path.parent, given)

    def _open(self) -> BinaryIO:
        file = (self.path if self._unpacked is None else Path(self._unpacked.name)).open("rb")
        if self._stamp not in (None, _stamp(file)):
            file.close()
            raise ConfigError(f"{self.path} has been changed since it was opened; read it anew")
        return file

    def _parsed(self, line: bytes, place: str) -> Row:
        try:
            fields = json.loads(line.removeprefix(_BOM).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{place}: not a JSON object in UTF-8 ({error}); {self._needed}"
            ) from error
        if not isinstance(fields, dict):
            raise ConfigError(f"{place}: {self._needed}, got JSON of type {type(fields).__name__}")
        return fields


class DatasetRows:
    """The rows of a `datasets.Dataset`, or of any sequence of mappings.

    A data set keeps its table on the disk, and so a row is read when it is asked for. Its columns
    of objects have all fields that any row has: fields that are None are taken for absent, in
    tools and in arguments that are not JSON text as well.

    Raises ConfigError for what cannot be read by positions.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
            raise ConfigError(
                f"got a {type(rows).__name__}, whose rows cannot be read by their numbers; load "
                "the data set without streaming=True"
            )
        info = getattr(rows, "info", None)
        self.name = str(getattr(info, "dataset_name", None) or "examples")
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[int, str, Row]]:
        for position in range(len(self._rows)):
            yield position, f"{self.name}, row {position}", self.at(position)

    def at(self, position: int) -> Row:
        """The row of this number, from 0."""
        row = self._rows[position]
        if not isinstance(row, Mapping):
            raise ConfigError(
                f"{self.name}, row {position}: got a {type(row).__name__}; needed an object of "
                "columns"
            )
        found: Row = _without_nulls(row)
        return found

    def image(self, given: object) -> Image:
        """An image that the row holds: PIL's, or its bytes as {"bytes": ...}."""
        from t2agent.images import as_rgb, decode_image

        try:
            if isinstance(given, Mapping) and isinstance(given.get("bytes"), bytes):
                return decode_image(given["bytes"])
            if hasattr(given, "getpixel"):
                return as_rgb(cast("Image", given))
        except ImageRefusedError as error:
            raise ConfigError(f"the image cannot be decoded: {error}") from error
        raise ConfigError(
            f"'image' is {given!r:.80}; needed an image: cast the column to datasets.Image()"
        )


def json_lines(path: Path, needed: str) -> Iterator[tuple[str, Row]]:
    """The objects of a JSON-lines file, and where each stands; as of `JsonLines`."""
    for _, place, fields in JsonLines(path, needed):
        yield place, fields


def image_in(folder: Path, name: object) -> Image:
    """The image of a file in or below ``folder``, whose path in it is ``name``.

    Raises:
        ConfigError: ``name`` is no path or leads out of the folder, or `read_image_file` refuses
            the file.
    """
    if not isinstance(name, str):
        raise ConfigError(f"'image' is {name!r:.80}; needed the path of an image file")
    if "://" in name:
        raise ConfigError(f"the image {name!r:.80} is an address; put the file beside the examples")
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
    from t2agent.images import read_image_file

    try:
        return read_image_file(file)
    except ImageRefusedError as error:
        raise ConfigError(f"the image {name!r} cannot be decoded: {error}") from error


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
