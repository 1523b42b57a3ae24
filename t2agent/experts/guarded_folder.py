"""Reading a folder that need not be trusted, and that another process may replace meanwhile.

A folder is held open while it is read, so that all its files are of one version. Of its files only
regular ones are opened, none that a link out of the folder leads to, and none larger than expected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from t2agent.errors import ExpertFormatError
from t2agent.files import settle_folder

_ATTEMPTS = 100
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
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


def read_whole(root: Path, read: Callable[[Place], T]) -> T:
    """What ``read`` makes of the folder; read anew where it was replaced meanwhile.

    Raises:
        ExpertFormatError: ``read`` does, or there is no such folder.
    """
    for left in reversed(range(_ATTEMPTS)):
        with opened(root) as place:
            try:
                return read(place)
            except ExpertFormatError:
                # Where another process replaced the folder meanwhile, read the new one.
                if place.is_current() or not left:
                    raise
    raise AssertionError("unreachable")


@contextmanager
def opened(root: Path) -> Iterator[Place]:
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
            yield Place(root, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    raise bad(root, "there is no such folder", "Check the path.")


def bad(root: Path, problem: str, remedy: str = "") -> ExpertFormatError:
    """The error that says what is wrong with a folder."""
    remedy = remedy or "Save or fetch the expert again."
    return ExpertFormatError(f"{root} is not a usable expert: {problem}. {remedy}")
