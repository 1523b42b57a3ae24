"""Writing files and folders whole: a process killed at any point leaves the old or the new.

A file is written to a temporary name in its own folder, flushed to disk and renamed over the old
one. A folder is built beside its target and swapped with it: Linux exchanges two folders in one
step (renameat2); elsewhere the old folder is first moved to ``.<name>.old``, and `recover_folder`
puts it back if the process died before the new one took its place.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import io
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_STALE_SECONDS = 3600.0
_SWAP_ATTEMPTS = 100
_LOOKS = 100
_QUIET_LOOKS = 3
_LOOK_SECONDS = 0.001
_ASIDE = re.compile(r"\.(.+)\.old", re.DOTALL)


@contextmanager
def replace_file(path: Path | str) -> Iterator[Path]:
    """Yield the path of a file to make beside ``path``, which takes its place, flushed to disk,
    when the block ends well. Missing parent folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path``, whole and flushed to disk. Missing parent folders are made."""
    with replace_file(path) as temporary, open(temporary, "xb") as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8 with the newlines it has; otherwise as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_figure(path: Path | str, figure: Figure, dpi: int = 120) -> None:
    """Write a figure of matplotlib as a PNG, whole and flushed to disk. One that was made by
    `Figure(...)`, not by pyplot, needs no display and touches no state of the caller's.

    It has 64 colours, which lines and axes do with, and takes a third of the room so."""
    from PIL import Image

    drawn, image = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(64).save(image, format="PNG", optimize=True)
    write_bytes(path, image.getvalue())


@contextmanager
def replace_folder(target: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block ends well.

    Nothing of the old folder is kept. If the block raises, the old folder stays as it was. A
    target that is a symbolic link stays one; the folder that it points to is replaced.
    """
    final = Path(os.path.realpath(target))
    final.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(final)
    _sweep(final)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(6)}.new")
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _swap(temporary, final)
    finally:
        # After an exchange this is the old folder; after a failure, the unfinished new one.
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(target: Path | str) -> None:
    """Put back a folder whose replacement was cut short between its two renames."""
    final = Path(os.path.realpath(target))
    aside = _aside(final)
    if not final.exists() and aside.is_dir():
        with suppress(OSError):  # another process was quicker, or the place is read-only
            os.rename(aside, final)


def settle_folder(target: Path | str) -> bool:
    """Whether the folder is there, not taken in by the moment in which it is being replaced.

    Between another process's two renames there is no folder of the name, neither before nor after
    the old one was looked for: that is believed only where nothing shows a replacement under way.
    """
    final = Path(os.path.realpath(target))
    quiet = 0
    for _ in range(_LOOKS):
        recover_folder(final)
        if os.path.exists(final):  # Path.exists would raise where it may not look
            return True
        quiet += not (_aside(final).exists() or any(_unfinished(final)))
        if quiet == _QUIET_LOOKS:
            break
        time.sleep(_LOOK_SECONDS)
    return False


def folder_names(parent: Path | str, known: Iterable[str] = ()) -> list[str]:
    """The names of the folders in ``parent``, sorted; hidden ones are passed over.

    Args:
        parent: where to look; one that cannot be read has none.
        known: names seen before. They are looked for once more where they are missing, since a
            folder that is being replaced has no name for a moment.
    """
    recover_folders(parent)
    try:
        with os.scandir(parent) as entries:
            listed = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
    names = {name for name in listed if not name.startswith(".")}
    aside = {found[1] for name in listed if (found := _ASIDE.fullmatch(name))}
    unsettled = {*known, *aside} - names
    return sorted(names | {name for name in unsettled if settle_folder(Path(parent) / name)})


def recover_folders(parent: Path | str) -> None:
    """`recover_folder` for every folder in ``parent`` that has an old version set aside."""
    for aside in Path(parent).glob(".*.old"):
        if found := _ASIDE.fullmatch(aside.name):
            recover_folder(aside.with_name(found[1]))


def remove_folder(target: Path | str) -> None:
    """Delete a folder: it is gone at once, also for a process that is killed meanwhile."""
    final = Path(target)
    shutil.rmtree(_aside(final), ignore_errors=True)  # or it would be recovered
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(6)}.new")
    os.rename(final, temporary)
    _sync_folder(final.parent)
    shutil.rmtree(temporary, ignore_errors=True)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _unfinished(final: Path) -> Iterator[Path]:
    """What writers, live or killed, have built beside ``final`` up to now."""
    return final.parent.glob(f".{glob.escape(final.name)}.*.new")


def _swap(new: Path, final: Path) -> None:
    for _ in range(_SWAP_ATTEMPTS):
        if not final.exists():
            try:
                os.rename(new, final)
            except OSError as error:
                # Another writer, or a reader's recovery, was quicker: there is a folder now.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue
            break
        try:
            if _exchange(new, final):
                break
            _move_aside(final)
        except FileNotFoundError:
            continue  # another writer is between its two renames
    else:
        raise OSError(errno.EBUSY, "other processes keep replacing this folder", str(final))
    _sync_folder(final.parent)
    shutil.rmtree(_aside(final), ignore_errors=True)


def _move_aside(final: Path) -> None:
    aside = _aside(final)
    shutil.rmtree(aside, ignore_errors=True)  # stale: `final` exists
    with suppress(OSError):
        os.rename(final, aside)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    rename = _renameat2()
    if rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _sweep(final: Path) -> None:
    """Remove what killed processes left beside ``final``; a live writer's folder is younger."""
    for left in _unfinished(final):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        elif path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot open a folder to flush it
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
