"""An expert's folder on disk: `expert.safetensors`, `expert_config.json` and `README.md`.

The config holds the card, the length of each vector and the SHA-256 of the vectors' file, so that
a folder that was damaged or mixed up is noticed; `expert_pin.json`, where the folder was pulled
from the Hub, the SHA-256 of both. Folders come from strangers: sizes are checked before anything is
read, nothing is unpickled, links that lead out of the folder are refused.

Reading a folder that need not be trusted, and that another process may replace meanwhile.

A folder is held open while it is read, so that all its files are of one version. Of its files only
regular ones are opened, none that a link out of the folder leads to, and none larger than expected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts.card import ExpertCard
from t2agent.experts.pins import PIN_FILE, Pin
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

MAX_CONFIG_BYTES = 8 * 2**20
_MAX_CONFIG_MARKS = 300_000
_MAX_PIN_BYTES = 2**16
_MAX_MODULES = 100_000
_MAX_PARAMETERS = 2**27
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """What `expert_config.json` says. ``lengths``: module name -> length of its vector.

    ``pin`` tells where on the Hub the folder was pulled from; None where it was not.
    """

    card: ExpertCard
    lengths: Mapping[str, int]
    sha256: str
    pin: Pin | None = None

    @property
    def parameters(self) -> int:
        """How many numbers the expert has."""
        return sum(self.lengths.values())

    @property
    def most_bytes(self) -> int:
        """How long the file of vectors may be."""
        return 8 + self.most_header_bytes + 4 * self.parameters

    @property
    def most_header_bytes(self) -> int:
        """How long its header may be: what all names take, escaped, and room for metadata."""
        return 2**16 + sum(200 + 12 * len(name) for name in self.lengths)


def pack(z: Mapping[str, Tensor]) -> bytes:
    """The vectors as a safetensors file: the same bytes for the same names and values.

    The ones that a vector ends in are left out, all but its first number: an expert of 64
    directions takes a seventh of the room on a base model with 576.
    """
    from safetensors.torch import save

    plain = {name: _without_end(z[name].detach().cpu()) for name in sorted(z)}
    # One entry: safetensors writes several in random order.
    return save(plain, metadata={"t2agent_format_version": str(FORMAT_VERSION)})


def _without_end(vector: Tensor) -> Tensor:
    moved = (vector != 1).nonzero()
    return vector[: int(moved.max()) + 1 if len(moved) else 1].contiguous().clone()


def contents(card: ExpertCard, z: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The files of an expert: name -> content."""
    vectors = pack(z)
    lengths = {name: len(z[name]) for name in sorted(z)}
    config = {
        "format_version": FORMAT_VERSION,
        "sha256": hashlib.sha256(vectors).hexdigest(),
        "lengths": lengths,
        "card": card.to_dict(),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    readme = card.readme(sum(lengths.values()))
    return {VECTORS_FILE: vectors, CONFIG_FILE: text.encode(), README_FILE: readme.encode()}


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """What a `Pin` says of these files: the SHA-256 of ``vectors`` and ``config``."""
    names = {"vectors": VECTORS_FILE, "config": CONFIG_FILE}
    return {key: hashlib.sha256(files[name]).hexdigest() for key, name in names.items()}


def write(folder: Path | str, files: Mapping[str, bytes]) -> None:
    """Replace ``folder`` by the expert of these files, whole; see `t2agent.files.replace_folder`.

    Raises:
        ConfigError: the folder holds something that is not an expert, and would be lost; or
            ``folder`` is no path.
    """
    target = _root(folder)
    _check_replaceable(target)
    with replace_folder(target) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)


def write_card(folder: Path | str, card: ExpertCard, z: Mapping[str, Tensor]) -> None:
    """Put another card into an expert's folder; its other files stay. Raises as `write`."""
    target = _root(folder)
    files = contents(card, z)
    write(target, {**{p.name: p.read_bytes() for p in target.iterdir() if p.is_file()}, **files})


def read(folder: Path | str) -> tuple[ExpertConfig, dict[str, Vector]]:
    """The config and the vectors (float32), checked against each other. PyTorch is not loaded.

    Raises:
        ExpertFormatError: something is missing, damaged, too large, or not in this format.
        ConfigError: ``folder`` is no path.
    """

    def both(held: OpenFolder) -> tuple[ExpertConfig, dict[str, Vector]]:
        config = _read_config(held)
        return config, _read_vectors(held, config)

    return read_whole(_root(folder), both)


def read_config(folder: Path | str) -> ExpertConfig:
    """The config alone. The vectors, which are not looked at, may be damaged.

    Raises ExpertFormatError and ConfigError as `read`.
    """
    return read_whole(_root(folder), _read_config)


def parse_config(root: Path, data: bytes) -> ExpertConfig:
    """What the bytes of `expert_config.json` say.

    Args:
        root: where they are from, for the errors.
        data: the bytes.

    Raises:
        ExpertFormatError: they are damaged, or not in this format.
    """
    if _marks(data) > _MAX_CONFIG_MARKS:
        raise bad(root, f"{CONFIG_FILE} holds more than {_MAX_CONFIG_MARKS:,} values")
    try:
        plain = json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_distinct
        )
    except (ValueError, RecursionError) as error:
        raise bad(root, f"{CONFIG_FILE} is not JSON ({error})") from error
    if not isinstance(plain, dict):
        raise bad(root, f"{CONFIG_FILE} is not a JSON object")
    version = plain.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise bad(
            root,
            f"{CONFIG_FILE} has format_version {version!r:.80}, this t2agent reads "
            f"{FORMAT_VERSION}",
            "Use the version of t2agent that wrote it, or a newer one.",
        )
    sha256, lengths = plain.get("sha256"), plain.get("lengths")
    if not isinstance(sha256, str) or not isinstance(lengths, dict) or not lengths:
        raise bad(root, f"{CONFIG_FILE} lacks 'sha256' or 'lengths'")
    for name, length in lengths.items():
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise bad(root, f"the length of {name!r:.200} in {CONFIG_FILE} is {length!r:.80}")
    if len(lengths) > _MAX_MODULES or sum(lengths.values()) > _MAX_PARAMETERS:
        most = f"{_MAX_PARAMETERS:,} parameters in {_MAX_MODULES:,} modules"
        raise bad(root, f"it claims more than {most}")
    try:
        card = ExpertCard.from_dict(plain.get("card"))
    except ConfigError as error:
        raise bad(root, f"the card in {CONFIG_FILE} is unusable: {error}") from error
    return ExpertConfig(card, lengths, sha256)


def _root(folder: Path | str) -> Path:
    if not isinstance(folder, str | os.PathLike) or "\0" in os.fspath(folder):
        raise ConfigError(f"{folder!r:.80} is no path of an expert's folder; give a string or Path")
    return Path(folder)


def _read_config(held: OpenFolder) -> ExpertConfig:
    data = held.read(CONFIG_FILE, MAX_CONFIG_BYTES)
    config = parse_config(held.root, data)
    if not held.has(PIN_FILE):
        return config
    try:
        pin = Pin.from_bytes(held.read(PIN_FILE, _MAX_PIN_BYTES))
    except ConfigError as error:
        raise bad(held.root, f"{PIN_FILE} is damaged: {error}", "Pull it again.") from error
    if (pin.vectors, pin.config) != (config.sha256, hashlib.sha256(data).hexdigest()):
        raise bad(
            held.root,
            f"{CONFIG_FILE} is not what was pulled from {pin.address}",
            f"Pull it again, or delete {PIN_FILE} to keep it as an expert of your own.",
        )
    return dataclasses.replace(config, pin=pin)


def _read_vectors(held: OpenFolder, config: ExpertConfig) -> dict[str, Vector]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    root = held.root
    with held.file(VECTORS_FILE, config.most_bytes) as (file, size):
        # Nothing large is kept in memory before the file is known to be the right one.
        length = int.from_bytes(file.read(8), "little")
        if length > min(config.most_header_bytes, size - 8):
            raise bad(root, f"{VECTORS_FILE} is not safetensors (header of {length:,} bytes)")
        if _marks(file.read(length)) > 8 * len(config.lengths) + 5000:
            raise bad(root, f"{VECTORS_FILE} is not safetensors (its header holds other things)")
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != config.sha256:
            raise bad(root, f"{VECTORS_FILE} is not the file that {CONFIG_FILE} was written for")
        file.seek(0)
        data = file.read(size)
    try:
        z = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise bad(
            root, f"{VECTORS_FILE} is not safetensors with float32 ({error!r:.300})"
        ) from error
    if z.keys() != config.lengths.keys():
        raise bad(root, f"{VECTORS_FILE} and {CONFIG_FILE} name different modules")
    for name, vector in z.items():
        most = config.lengths[name]
        if vector.dtype != np.float32 or vector.ndim != 1 or not 1 <= len(vector) <= most:
            raise bad(
                root,
                f"z of {name!r:.200} is {vector.dtype!s:.20} {vector.shape!s:.80}, needed is "
                f"float32 ({most},), or shorter where ones are left out at its end",
            )
        if not np.isfinite(vector).all():
            raise bad(root, f"z of {name!r:.200} holds NaN or infinity", "Train it again.")
        z[name] = np.pad(vector, (0, most - len(vector)), constant_values=1)
    return z


def _marks(text: bytes) -> int:
    """How many marks stand between values: what JSON takes in memory goes by their number."""
    return sum(map(text.count, (b"[", b"{", b",")))


def _check_replaceable(target: Path) -> None:
    def check(held: OpenFolder) -> None:
        entries = held.entries()
        if entries and (CONFIG_FILE not in entries or any(entries.values())):
            raise ConfigError(
                f"{target} holds other things ({', '.join(list(entries)[:3])}) that saving "
                "an expert there would delete; give a new folder"
            )

    if not settle_folder(target):
        return
    if target.is_file():
        raise ConfigError(f"{target} is a file; an expert is saved as a folder: give another path")
    read_whole(target, check)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different: readers differ in which one they take."""
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise ValueError("a key stands there twice")
    return plain


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenFolder:
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

    def entries(self) -> dict[str, bool]:
        """The names in it, sorted; whether each is a folder."""
        found = os.listdir(self.root if self.descriptor is None else self.descriptor)
        return {name: self._is_folder(name) for name in sorted(found)}

    def has(self, name: str) -> bool:
        """Whether there is anything of that name, if only a broken link."""
        try:
            os.stat(self._path(name), dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return False
        return True

    def read(self, name: str, largest: int) -> bytes:
        """The bytes of a file; raises as `file`."""
        with self.file(name, largest) as (file, size):
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise bad(self.root, f"{name} changes while it is read")
            return data

    @contextmanager
    def file(self, name: str, largest: int) -> Iterator[tuple[BufferedReader, int]]:
        """A regular file inside the folder, open, and how many bytes it has.

        Raises:
            ExpertFormatError: there is none, it is no such file, or larger than ``largest``.
        """
        root, path = self.root, self._path(name)
        try:
            status = os.stat(path, dir_fd=self.descriptor, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                inside = (root / name).resolve(strict=True)
                if not inside.is_relative_to(root.resolve()):
                    raise bad(
                        root,
                        f"{name} is a link that leads out of the folder",
                        "Copy the file itself there (from the Hub: use Expert.from_pretrained).",
                    )
                status = inside.stat()
            if not stat.S_ISREG(status.st_mode):
                raise bad(root, f"{name} is not a regular file")
            # Not blocking: between the check and here it may have become a pipe.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            with open(os.open(path, flags, dir_fd=self.descriptor), "rb") as file:
                # Of what was opened: it need not be what was looked at.
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise bad(root, f"{name} is not a regular file")
                if status.st_size > largest:
                    size = f"{status.st_size:,} bytes, at most {largest:,} are read"
                    raise bad(root, f"{name} has {size}")
                yield file, status.st_size
        except FileNotFoundError as error:
            raise bad(root, f"it has no {name}") from error
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links (Python < 3.13)
            raise bad(root, f"{name} cannot be read ({error})") from error

    def _path(self, name: str) -> str:
        """What ``os`` functions take for a file, with ``dir_fd`` the descriptor."""
        return name if self.descriptor is not None else str(self.root / name)

    def _is_folder(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(self._path(name), dir_fd=self.descriptor).st_mode)
        except OSError:
            return False


def read_whole(root: Path, read: Callable[[OpenFolder], T]) -> T:
    """What ``read`` makes of the folder; read anew where it was replaced meanwhile.

    Raises:
        ExpertFormatError, ConfigError: ``read`` does, or there is no such folder.
    """
    for left in reversed(range(_ATTEMPTS)):
        with opened(root) as held:
            try:
                return read(held)
            except (ExpertFormatError, ConfigError):
                # Where another process replaced the folder meanwhile, read the new one.
                if held.is_current() or not left:
                    raise
    raise AssertionError("unreachable")


@contextmanager
def opened(root: Path) -> Iterator[OpenFolder]:
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
            raise bad(root, f"it cannot be read ({error.strerror})", "Check the path.") from error
        try:
            yield OpenFolder(root, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    raise bad(root, "there is no such folder", "Check the path.")


def bad(root: Path, problem: str, remedy: str = "") -> ExpertFormatError:
    """The error that says what is wrong with a folder."""
    remedy = remedy or "Save or fetch the expert again."
    return ExpertFormatError(f"{root} is not a usable expert: {problem}. {remedy}")
