"""An expert's folder on disk: `expert.safetensors`, `expert_config.json` and `README.md`.

The config holds the card, the length of each vector and the SHA-256 of the vectors' file, so that
a folder that was damaged or mixed up is noticed. Folders come from strangers: sizes are checked
before anything is read, nothing is unpickled, links that lead out of the folder are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t2agent.card import ExpertCard
from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.files import replace_folder, settle_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Vector = NDArray[np.float32]

VECTORS_FILE = "expert.safetensors"
CONFIG_FILE = "expert_config.json"
README_FILE = "README.md"
FORMAT_VERSION = 1

_MAX_CONFIG_BYTES = 8 * 2**20
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_PARAMETERS = 2**27
_ATTEMPTS = 100

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """What `expert_config.json` says. ``lengths``: module name -> length of its vector."""

    card: ExpertCard
    lengths: Mapping[str, int]
    sha256: str

    @property
    def parameters(self) -> int:
        """How many numbers the expert has."""
        return sum(self.lengths.values())


def pack(z: Mapping[str, Tensor]) -> bytes:
    """The vectors as a safetensors file: the same bytes for the same names and values."""
    from safetensors.torch import save

    plain = {name: z[name].detach().cpu().contiguous().clone() for name in sorted(z)}
    # One entry: safetensors writes several in random order.
    return save(plain, metadata={"t2agent_format_version": str(FORMAT_VERSION)})


def write(folder: Path | str, card: ExpertCard, z: Mapping[str, Tensor]) -> None:
    """Replace ``folder`` by the expert, whole; see `t2agent.files.replace_folder`.

    Raises:
        ConfigError: the folder holds something that is not an expert, and would be lost; or
            ``folder`` is no path.
    """
    target = _root(folder)
    _check_replaceable(target)
    vectors = pack(z)
    lengths = {name: len(z[name]) for name in sorted(z)}
    config = {
        "format_version": FORMAT_VERSION,
        "sha256": hashlib.sha256(vectors).hexdigest(),
        "lengths": lengths,
        "card": card.to_dict(),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replace_folder(target) as temporary:
        (temporary / VECTORS_FILE).write_bytes(vectors)
        (temporary / CONFIG_FILE).write_bytes(text.encode())
        (temporary / README_FILE).write_bytes(card.readme(sum(lengths.values())).encode())


def read(folder: Path | str) -> tuple[ExpertConfig, dict[str, Vector]]:
    """The config and the vectors (float32), checked against each other. PyTorch is not loaded.

    Raises:
        ExpertFormatError: something is missing, damaged, too large, or not in this format.
        ConfigError: ``folder`` is no path.
    """

    def both(place: _Place) -> tuple[ExpertConfig, dict[str, Vector]]:
        config = _read_config(place)
        return config, _read_vectors(place, config)

    return _read_whole(_root(folder), both)


def read_config(folder: Path | str) -> ExpertConfig:
    """The config alone. The vectors, which are not looked at, may be damaged.

    Raises ExpertFormatError and ConfigError as `read`.
    """
    return _read_whole(_root(folder), _read_config)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder held open: its files are found whatever name it has now, and no other folder can
    get its number. ``descriptor`` is None on Windows, where a folder cannot be opened.
    """

    root: Path
    descriptor: int | None

    def is_current(self) -> bool:
        """Whether the name still leads to this folder."""
        if self.descriptor is None:
            return self.root.exists()
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.root.stat())
        except OSError:
            return False

    def path(self, name: str) -> str:
        """What ``os`` functions take for a file, with ``dir_fd`` the descriptor."""
        return name if self.descriptor is not None else str(self.root / name)

    def entries(self) -> dict[str, bool]:
        """The names in it, sorted; whether each is a folder."""
        found = os.listdir(self.root if self.descriptor is None else self.descriptor)
        return {name: self._is_folder(name) for name in sorted(found)}

    def _is_folder(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(self.path(name), dir_fd=self.descriptor).st_mode)
        except OSError:
            return False


@contextmanager
def _opened(root: Path) -> Iterator[_Place]:
    """The folder ``root``, also where it is just being replaced."""
    descriptor = None
    for _ in range(_ATTEMPTS):
        if not settle_folder(root):
            break
        try:
            if os.open in os.supports_dir_fd:
                descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            else:
                os.listdir(root)  # fails as opening it would
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _bad(root, f"it cannot be read ({error.strerror})", "Check the path.") from error
        try:
            yield _Place(root, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    raise _bad(root, "there is no such folder", "Check the path.")


def _read_whole(root: Path, read: Callable[[_Place], _T]) -> _T:
    for left in reversed(range(_ATTEMPTS)):
        with _opened(root) as place:
            try:
                return read(place)
            except ExpertFormatError:
                # Where another process replaced the folder meanwhile, read the new one.
                if place.is_current() or not left:
                    raise
    raise AssertionError("unreachable")


def _root(folder: Path | str) -> Path:
    if not isinstance(folder, str | os.PathLike) or "\0" in os.fspath(folder):
        raise ConfigError(f"{folder!r:.80} is no path of an expert's folder; give a string or Path")
    return Path(folder)


def _read_config(place: _Place) -> ExpertConfig:
    root = place.root
    data = _bounded(place, CONFIG_FILE, _MAX_CONFIG_BYTES)
    try:
        plain = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(root, f"{CONFIG_FILE} is not JSON ({error})") from error
    if not isinstance(plain, dict):
        raise _bad(root, f"{CONFIG_FILE} is not a JSON object")
    version = plain.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise _bad(
            root,
            f"{CONFIG_FILE} has format_version {version!r}, this t2agent reads {FORMAT_VERSION}",
            "Use the version of t2agent that wrote it, or a newer one.",
        )
    sha256, lengths = plain.get("sha256"), plain.get("lengths")
    if not isinstance(sha256, str) or not isinstance(lengths, dict) or not lengths:
        raise _bad(root, f"{CONFIG_FILE} lacks 'sha256' or 'lengths'")
    for name, length in lengths.items():
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise _bad(root, f"the length of {name!r} in {CONFIG_FILE} is {length!r}")
    if sum(lengths.values()) > _MAX_PARAMETERS:
        raise _bad(root, f"it claims more than {_MAX_PARAMETERS:,} parameters")
    try:
        card = ExpertCard.from_dict(plain.get("card"))
    except ConfigError as error:
        raise _bad(root, f"the card in {CONFIG_FILE} is unusable: {error}") from error
    return ExpertConfig(card, lengths, sha256)


def _read_vectors(place: _Place, config: ExpertConfig) -> dict[str, Vector]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    root = place.root
    largest = 8 + _MAX_HEADER_BYTES + 4 * config.parameters
    data = _bounded(place, VECTORS_FILE, largest)
    if hashlib.sha256(data).hexdigest() != config.sha256:
        raise _bad(root, f"{VECTORS_FILE} is not the file that {CONFIG_FILE} was written for")
    try:
        z = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _bad(root, f"{VECTORS_FILE} is not safetensors with float32 ({error!r})") from error
    if z.keys() != config.lengths.keys():
        raise _bad(root, f"{VECTORS_FILE} and {CONFIG_FILE} name different modules")
    for name, vector in z.items():
        if vector.dtype != np.float32 or vector.shape != (config.lengths[name],):
            raise _bad(
                root,
                f"z of {name!r} is {vector.dtype} {vector.shape}, "
                f"needed is float32 ({config.lengths[name]},)",
            )
        if not np.isfinite(vector).all():
            raise _bad(root, f"z of {name!r} holds NaN or infinity", "Train it again.")
    return z


def _bounded(place: _Place, name: str, largest: int) -> bytes:
    """The bytes of a regular file inside a folder that is not larger than ``largest``."""
    root, path = place.root, place.path(name)
    try:
        status = os.stat(path, dir_fd=place.descriptor, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            inside = (root / name).resolve(strict=True)
            if not inside.is_relative_to(root.resolve()):
                raise _bad(
                    root,
                    f"{name} is a link that leads out of the folder",
                    "Copy the file itself there (for a Hub download: give a local_dir).",
                )
            status = inside.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _bad(root, f"{name} is not a regular file")
        if status.st_size > largest:
            raise _bad(root, f"{name} has {status.st_size:,} bytes, at most {largest:,} are read")
        # Not blocking: between the check and here it may have become a pipe.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags, dir_fd=place.descriptor), "rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError as error:
        raise _bad(root, f"it has no {name}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links (Python < 3.13)
        raise _bad(root, f"{name} cannot be read ({error})") from error
    if len(data) > largest:
        raise _bad(root, f"{name} is larger than {largest:,} bytes")
    return data


def _check_replaceable(target: Path) -> None:
    for left in reversed(range(_ATTEMPTS)):
        if not settle_folder(target):
            return
        if target.is_file():
            raise ConfigError(
                f"{target} is a file; an expert is saved as a folder: give another path"
            )
        with _opened(target) as place:
            entries = place.entries()
            if not entries or (CONFIG_FILE in entries and not any(entries.values())):
                return
            if place.is_current() or not left:
                raise ConfigError(
                    f"{target} holds other things ({', '.join(list(entries)[:3])}) that saving "
                    "an expert there would delete; give a new folder"
                )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _bad(root: Path, problem: str, remedy: str = "") -> ExpertFormatError:
    remedy = remedy or "Save or fetch the expert again."
    return ExpertFormatError(f"{root} is not a usable expert: {problem}. {remedy}")
