"""Finding experts that nobody registered: in folders and in entry points.

Everything is checked here once and remembered until a file changes; what cannot be used becomes a
problem with a name and a cause, never an exception, since one bad folder must not cost the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from t2agent import expert_folder
from t2agent.card import ExpertCard
from t2agent.errors import ExpertError, ExpertFormatError
from t2agent.expert import Expert, load_with_digest
from t2agent.files import folder_names
from t2agent.pin import Pin

ENTRY_POINT_GROUP = "t2agent.experts"

Source = Literal["code", "user", "entry point", "shipped"]
_warned: set[tuple[str, str]] = set()
_warned_lock = threading.Lock()

_Signature = tuple[tuple[int, ...] | None, ...]


@dataclass(slots=True, eq=False)
class Entry:
    """One expert that can be used.

    ``digest`` is the SHA-256 of its vectors' file; ``pin`` tells where on the Hub it is from.
    """

    card: ExpertCard
    lengths: dict[str, int]
    digest: str
    source: Source
    folder: Path | None = None
    pin: Pin | None = None
    _loaded: Expert | None = None

    @classmethod
    def of(cls, expert: Expert, source: Source) -> Entry:
        """The entry of an expert that is in memory."""
        return cls(expert.card, expert.lengths, expert.digest(), source, _loaded=expert)

    def load(self) -> Expert | None:
        """The expert, read once; None where its folder changed since it was found."""
        if self._loaded is None and self.folder is not None:
            with suppress(ExpertFormatError):
                expert, digest = load_with_digest(self.folder)
                if expert.card == self.card and digest == self.digest:
                    self._loaded = expert
        return self._loaded


@dataclass(frozen=True, slots=True)
class Found:
    """An expert that was found, or why it cannot be used. ``where`` says it to a person."""

    where: str
    name: str
    result: Entry | ExpertError


@dataclass(frozen=True, slots=True)
class View:
    """What a registry holds at one moment. ``problems``: where -> why."""

    entries: Mapping[str, Entry]
    problems: Mapping[str, ExpertError]
    problems_by_name: Mapping[str, ExpertError]
    fingerprint: str

    @classmethod
    def of(cls, found: Iterable[Found]) -> View:
        """The first expert of each name, sorted; each problem is warned of once in a process."""
        entries: dict[str, Entry] = {}
        problems: dict[str, ExpertError] = {}
        by_name: dict[str, ExpertError] = {}
        for one in found:
            if isinstance(one.result, Entry):
                entries.setdefault(one.name, one.result)
            else:
                problems[one.where] = by_name[one.name] = one.result
                _warn_once(one.where, str(one.result))
        entries = {name: entries[name] for name in sorted(entries)}
        content = [[entry.digest, entry.card.to_dict()] for entry in entries.values()]
        text = json.dumps(content, sort_keys=True)
        return cls(entries, problems, by_name, hashlib.sha256(text.encode()).hexdigest())


class FolderReader:
    """Reads experts' folders, each again only after one of its two files changed."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[_Signature, Found]] = {}

    def read(self, folder: Path, source: Source) -> Found:
        """The expert in ``folder``."""
        signature = tuple(
            _signature(folder / name)
            for name in (expert_folder.CONFIG_FILE, expert_folder.VECTORS_FILE)
        )
        seen = self._seen.get(folder)
        if seen is None or seen[0] != signature:
            seen = signature, self._read(folder, source)
            self._seen[folder] = seen
        return seen[1]

    def scan(self, parent: Path, source: Source, *, skip: str = "") -> Iterator[Found]:
        """The experts in the folders of ``parent``; hidden ones and ``skip`` are passed over."""
        known = {folder.name for folder in self._seen if folder.parent == parent}
        names = folder_names(parent, known)
        for name in known.difference(names):
            del self._seen[parent / name]
        found = [self.read(parent / name, source) for name in names if name != skip]
        # Where two folders hold experts of one name, the folder of that name has it.
        yield from sorted(found, key=lambda one: one.name != Path(one.where).name)

    @staticmethod
    def _read(folder: Path, source: Source) -> Found:
        try:
            config, _ = expert_folder.read(folder)
        except ExpertError as error:
            return Found(str(folder), folder.name, error)
        entry = Entry(config.card, dict(config.lengths), config.sha256, source, folder, config.pin)
        return Found(str(folder), config.card.name, entry)


PluginReader = Callable[[FolderReader], Found]


def entry_points() -> list[PluginReader]:
    """One reader for each entry point of the group `t2agent.experts`.

    An entry point is a path, an Expert, or a function without arguments that returns one. It is
    loaded here, once; a folder that it gives is read again when it changes.
    """
    return [_of_entry_point(point) for point in metadata.entry_points(group=ENTRY_POINT_GROUP)]


def _of_entry_point(point: metadata.EntryPoint) -> PluginReader:
    where = f"entry point {point.name} = {point.value}"
    found: Found
    try:
        given = point.load()
        if callable(given):
            given = given()
        if isinstance(given, str | os.PathLike):
            folder = Path(given)
            return lambda reader: _renamed(reader.read(folder, "entry point"), where)
        if not isinstance(given, Expert):
            raise TypeError(f"it gives a {type(given).__name__}, not an Expert or a path")
        given.check_finite()
        found = Found(where, given.name, Entry.of(given, "entry point"))
    except Exception as error:  # noqa: BLE001 - someone else's code: whatever it raises must not stop us
        problem = ExpertFormatError(
            f"{where} gives no expert ({type(error).__name__}: {error}). "
            "Update or remove the package that has it."
        )
        found = Found(where, point.name, problem)
    return lambda _reader: found


def changed_at(folder: Path) -> float | None:
    """When an entry of ``folder`` was last made, renamed or deleted; None without a folder."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return None


def _renamed(found: Found, where: str) -> Found:
    return Found(where, found.name, found.result)


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _warn_once(where: str, problem: str) -> None:
    with _warned_lock:
        if (where, problem) in _warned:
            return
        _warned.add((where, problem))
    warnings.warn(f"an expert was left out. {problem}", stacklevel=2)
