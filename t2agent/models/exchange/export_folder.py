"""The folder of an export: written whole, and told from what must not be lost."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError
from t2agent.files import replace_folder, settle_folder

RECORD_FILE = "t2agent_export.json"
README_FILE = "README.md"
FORMAT_VERSION = 1

_MAX_RECORD_BYTES = 64 * 2**20


@contextmanager
def export_folder(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends well.

    The block ends with `write_record`. An export that lies there is replaced.

    Raises:
        ConfigError: `folder` is no path, or holds something else, which would be lost.
    """
    check_free(folder)
    with replace_folder(folder) as temporary:
        yield temporary


def check_free(folder: Path | str) -> None:
    """Raise ConfigError where `folder` is no path, or writing there would lose something."""
    if not isinstance(folder, str | os.PathLike) or not str(folder) or "\0" in os.fspath(folder):
        raise ConfigError(f"{folder!r:.80} is no path of a folder; give a string or Path")
    target = Path(folder)
    if not settle_folder(target):
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file; an export is a folder: give another path")
    present = set(os.listdir(target))
    foreign = sorted(present - _recorded(target))
    if foreign:
        raise ConfigError(
            f"{target} holds other things ({', '.join(foreign[:3])}) that an export there would "
            "delete; give a new folder"
        )


def write_record(folder: Path, kind: str, report: Mapping[str, Any]) -> None:
    """Write `t2agent_export.json`: what the export is, and the files that belong to it.

    Args:
        folder: the finished folder.
        kind: "lora" or "merged".
        report: what the export's report says, in plain JSON.
    """
    files = sorted({*os.listdir(folder), RECORD_FILE})
    record = {"format_version": FORMAT_VERSION, "kind": kind, "files": files, **report}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / RECORD_FILE).write_bytes(text.encode())
    # safetensors makes files that only their owner can read.
    mode = stat.S_IMODE((folder / RECORD_FILE).stat().st_mode)
    for name in files:
        if (folder / name).is_file():
            (folder / name).chmod(mode)


def _recorded(target: Path) -> set[str]:
    """The names of the files of the export that lies there; none where it is no export."""
    file = target / RECORD_FILE
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _MAX_RECORD_BYTES:
            return set()
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    files = record.get("files") if isinstance(record, dict) else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()
