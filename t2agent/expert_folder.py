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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.card import ExpertCard
from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.files import recover_folder, replace_folder

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
_READ_ATTEMPTS = 5


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
        ConfigError: the folder holds something that is not an expert, and would be lost.
    """
    target = Path(folder)
    recover_folder(target)
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
    """
    root = Path(folder)
    for attempt in range(_READ_ATTEMPTS):
        recover_folder(root)
        before = _identity(root)
        try:
            if before is None and not root.exists():
                raise _bad(root, "there is no such folder", "Check the path.")
            config = _read_config(root)
            return config, _read_vectors(root, config)
        except ExpertFormatError:
            # Where another process replaced the folder meanwhile, read the new one.
            if _identity(root) == before or attempt == _READ_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_config(root: Path) -> ExpertConfig:
    data = _bounded(root, CONFIG_FILE, _MAX_CONFIG_BYTES)
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


def _read_vectors(root: Path, config: ExpertConfig) -> dict[str, Vector]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    largest = 8 + _MAX_HEADER_BYTES + 4 * config.parameters
    data = _bounded(root, VECTORS_FILE, largest)
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


def _bounded(root: Path, name: str, largest: int) -> bytes:
    """The bytes of a regular file inside ``root`` that is not larger than ``largest``."""
    path = root / name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            inside = path.resolve(strict=True)
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
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError as error:
        raise _bad(root, f"it has no {name}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links (Python < 3.13)
        raise _bad(root, f"{name} cannot be read ({error})") from error
    if len(data) > largest:
        raise _bad(root, f"{name} is larger than {largest:,} bytes")
    return data


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file; an expert is saved as a folder: give another path")
    entries = list(target.iterdir())
    foreign = [entry.name for entry in entries if entry.is_dir()]
    if entries and (foreign or not (target / CONFIG_FILE).exists()):
        raise ConfigError(
            f"{target} holds other things ({', '.join(sorted(e.name for e in entries)[:3])}) that "
            "saving an expert there would delete; give a new folder"
        )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _bad(root: Path, problem: str, remedy: str = "") -> ExpertFormatError:
    remedy = remedy or "Save or fetch the expert again."
    return ExpertFormatError(f"{root} is not a usable expert: {problem}. {remedy}")
