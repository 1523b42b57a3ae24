"""Finding experts that nobody registered: in folders and in entry points.

Everything is checked here once and remembered until a file changes, of many folders also for later
processes (`t2agent.experts.verified`); what cannot be used becomes a problem with a name and a
cause, never an exception, since one bad folder must not cost the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Literal, get_args
from weakref import ReferenceType, ref

from t2agent.errors import ConfigError, ExpertError, ExpertFormatError, ExpertMismatchError
from t2agent.experts import folder as expert_folder
from t2agent.experts.card import ExpertCard, Modality
from t2agent.experts.compatibility import BaseModel
from t2agent.experts.eligibility import Eligibility, Overrides, by_card
from t2agent.experts.expert import Expert, load_with_digest
from t2agent.experts.pins import Pin
from t2agent.experts.verified import Signature, Verified
from t2agent.files import folder_names
from t2agent.paths import bundled, home

ENTRY_POINT_GROUP = "t2agent.experts"

Source = Literal["code", "user", "entry point", "shipped"]
_FILES = (expert_folder.CONFIG_FILE, expert_folder.VECTORS_FILE)


@dataclass(eq=False)
class Entry:
    """One expert that can be used.

    ``digest`` is the SHA-256 of its vectors' file; ``pin`` tells where on the Hub it is from. One
    from a folder is not kept here: it is the same object for as long as somebody holds it.
    """

    card: ExpertCard
    lengths: dict[str, int]
    digest: str
    source: Source
    folder: Path | None = None
    pin: Pin | None = None
    _given: Expert | None = None
    _alive: ReferenceType[Expert] | None = None

    @classmethod
    def of(cls, expert: Expert, source: Source) -> Entry:
        """The entry of an expert that is in memory."""
        return cls(expert.card, expert.lengths, expert.digest(), source, _given=expert)

    def load(self) -> Expert | None:
        """The expert, read where nobody holds it; None where its folder is not as it was found."""
        expert = self._given if self._alive is None else self._alive()
        if expert is None and self.folder is not None:
            with suppress(ExpertFormatError):
                read, digest = load_with_digest(self.folder)
                if read.card == self.card and digest == self.digest:
                    expert, self._alive = read, ref(read)
        return expert

    @property
    def parameters(self) -> int:
        """How many numbers the expert has."""
        return sum(self.lengths.values())

    @cached_property
    def eligibility(self) -> Eligibility:
        """Whether dispatch may choose it by itself, by its card."""
        return by_card(self.card)

    @cached_property
    def content(self) -> str:
        """A hash of the card and the vectors."""
        text = json.dumps([self.digest, self.card.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """An expert that was found, or why it cannot be used. ``where`` says it to a person."""

    where: str
    name: str
    result: Entry | ExpertError


class View:
    """What a registry holds at one moment: the first expert of each name, sorted.

    ``problems``: where -> why, each warned of once in a process; ``cards``: by kind of request,
    None for all; ``eligible``: name -> whether dispatch may choose it by itself, where nobody said
    it in ``asked``; ``fingerprint``: of all of this.
    """

    def __init__(self, found: Iterable[Found], asked: Mapping[str, bool | None]) -> None:
        entries: dict[str, Entry] = {}
        self.problems: dict[str, ExpertError] = {}
        self.problems_by_name: dict[str, ExpertError] = {}
        for one in found:
            if isinstance(one.result, Entry):
                entries.setdefault(one.name, one.result)
            else:
                self.problems[one.where] = self.problems_by_name[one.name] = one.result
                _warn_once(one.where, f"an expert was left out. {one.result}")
        self.entries = {name: entries[name] for name in sorted(entries)}
        every = {name: entry.card for name, entry in self.entries.items()}
        self.cards: dict[Modality | None, dict[str, ExpertCard]] = {None: every}
        for kind in get_args(Modality):
            self.cards[kind] = {name: card for name, card in every.items() if card.modality == kind}
        self.eligible = {
            name: entry.eligibility
            if (said := asked.get(name)) is None
            else Eligibility(said, "as you said")
            for name, entry in self.entries.items()
        }
        content = " ".join(entry.content for entry in self.entries.values())
        content += f" {[name for name, one in self.eligible.items() if one.eligible]}"
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()


class FolderReader:
    """Reads experts' folders, each again only after one of its two files changed."""

    def __init__(self) -> None:
        self._seen: dict[Path, dict[str, tuple[Signature, Found]]] = {}

    def read(self, folder: Path, source: Source, verified: Verified | None = None) -> Found:
        """The expert in ``folder``. verified: folders whose vectors need not be read again."""
        # Strings: of a thousand folders, making the paths would take longer than asking for them.
        signature = tuple(_signature(f"{folder}{os.sep}{name}") for name in _FILES)
        known = self._seen.setdefault(folder.parent, {})
        seen = known.get(folder.name)
        if seen is None or seen[0] != signature:
            whole = verified is not None and verified.holds(folder, signature)
            seen = known[folder.name] = signature, self._read(folder, source, whole)
        return seen[1]

    def forget(self, folder: Path) -> None:
        """Read a folder whole when it is asked for again, whatever its files' times say."""
        self._seen.get(folder.parent, {}).pop(folder.name, None)

    def scan(self, parent: Path, source: Source, *, skip: str = "") -> Iterator[Found]:
        """The experts in the folders of ``parent``; hidden ones and ``skip`` are passed over."""
        verified = None if parent in self._seen else Verified()
        known = self._seen.setdefault(parent, {})
        names = folder_names(parent, known)
        for name in known.keys() - names:
            del known[name]
        found = [self.read(parent / name, source, verified) for name in names if name != skip]
        if verified is not None:
            usable = {
                parent / n: s for n, (s, one) in known.items() if isinstance(one.result, Entry)
            }
            verified.update(parent, usable)
        # Where two folders hold experts of one name, the folder of that name has it.
        yield from sorted(found, key=lambda one: one.name != os.path.basename(one.where))

    @staticmethod
    def _read(folder: Path, source: Source, whole: bool) -> Found:
        try:
            config = expert_folder.read_config(folder) if whole else expert_folder.read(folder)[0]
        except ExpertError as error:
            return Found(str(folder), folder.name, error)
        entry = Entry(config.card, dict(config.lengths), config.sha256, source, folder, config.pin)
        return Found(str(folder), config.card.name, entry)


def _of_entry_point(point: metadata.EntryPoint) -> Callable[[FolderReader], Found]:
    """The reader of an entry point: a path, an Expert, or a function without arguments that
    returns one. It is loaded here, once; a folder that it gives is read again when it changes.
    """
    where = f"entry point {point.name} = {point.value}"
    found: Found
    try:
        given = point.load()
        if callable(given):
            given = given()
        if isinstance(given, str | os.PathLike):
            folder = Path(given)
            return lambda reader: replace(reader.read(folder, "entry point"), where=where)
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


def _signature(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=1024)
def _warn_once(where: str, problem: str) -> None:  # noqa: ARG001 - equal texts differ by it
    warnings.warn(problem, stacklevel=2)


_EMBEDDED_BASE = "base"
_RESCAN_SECONDS = 1.0
_CLOCK_GRAIN_SECONDS = 0.05


class Catalogue:
    """The experts for ``base``, from memory, the user's folder, entry points and the package.

    Not for several threads at once: the registry holds its lock.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._reader = FolderReader()
        self._plugins: list[Callable[[FolderReader], Found]] | None = None
        self._hidden: set[Entry] = set()
        self._cached: tuple[object, float, View] | None = None
        self._latest: tuple[object, View] | None = None
        self._judge = base
        self._judged: dict[Entry, ExpertMismatchError | None] = {}

    @property
    def user_folder(self) -> Path:
        """Where the user's experts lie; read from the environment at every call."""
        return home() / "experts" / self._base.slug

    @property
    def overrides(self) -> Overrides:
        """What was said, for later processes too, of which experts may be chosen."""
        return Overrides(self.user_folder)

    def view(self, in_code: dict[str, Entry], asked: Mapping[str, bool | None]) -> View:
        """What is there, ``in_code`` first; asked: of experts that may be chosen, or may not.

        Two folders' time stamps are compared and no more while nothing changes, for up to a
        second: this is asked several times for each request.
        """
        user, shipped = self.user_folder, self._shipped_folder
        times = changed_at(user), changed_at(shipped)
        stamp = (user, times, tuple(in_code.values()), tuple(asked.items()))
        if (
            self._cached is not None
            and self._cached[0] == stamp
            and time.monotonic() < self._cached[1]
        ):
            return self._cached[2]
        usable, asked = tuple(self._usable(in_code)), {**self._overridden(), **asked}
        if self._latest is None or self._latest[0] != (usable, asked):
            self._latest = (usable, asked), View(usable, asked)
        view = self._latest[1]
        # A folder that changed just now can change again without its time stamp telling.
        settled = abs(time.time() - max(at or 0.0 for at in times)) > _CLOCK_GRAIN_SECONDS
        # From now on: a thousand folders may take longer than a second to read.
        until = time.monotonic() + (_RESCAN_SECONDS if settled else 0.0)
        self._cached = stamp, until, view
        return view

    def _overridden(self) -> dict[str, bool]:
        try:
            return self.overrides.read()
        except ConfigError as error:
            _warn_once(str(self.user_folder), str(error))
            return {}

    def look_again(self) -> None:
        """Forget what was seen; files that did not change are not read again."""
        self._cached = None

    def reread(self, folder: Path) -> None:
        """Read a folder whole again, though its files' times did not change."""
        self._reader.forget(folder)
        self._cached = None

    def hide(self, name: str) -> None:
        """Leave out what is found under ``name`` now; a folder written anew is seen again."""
        self._hidden.update(
            found.result
            for found in self._discovered()
            if found.name == name and isinstance(found.result, Entry)
        )
        self._cached = None

    def misfit(self, card: ExpertCard, lengths: Mapping[str, int]) -> ExpertMismatchError | None:
        """Why an expert cannot be used here, or None."""
        return self._known_base().misfit(card, lengths)

    def in_user_folder(self, name: str) -> Path | None:
        """The user's folder that holds the expert ``name``, damaged or not."""
        found = (one for one in self._reader.scan(self.user_folder, "user") if one.name == name)
        return next((Path(one.where) for one in found), None)

    def name_in(self, folder: Path) -> str:
        """The name of the expert in a folder, or the folder's where that cannot be read."""
        return self._reader.read(folder, "user").name

    @property
    def _shipped_folder(self) -> Path:
        return bundled("experts") / self._base.slug

    def _usable(self, in_code: dict[str, Entry]) -> Iterator[Found]:
        base = self._known_base()
        judged = self._judged if base == self._judge else {}
        self._judge, self._judged = base, {}
        listed = (Found(f"code: {name}", name, entry) for name, entry in in_code.items())
        for found in chain(listed, self._discovered()):
            entry = found.result
            if not isinstance(entry, Entry):
                yield found
            elif entry not in self._hidden:
                fits = judged[entry] if entry in judged else base.misfit(entry.card, entry.lengths)
                self._judged[entry] = fits
                yield found if fits is None else Found(found.where, found.name, fits)

    def _discovered(self) -> Iterator[Found]:
        yield from self._reader.scan(self.user_folder, "user")
        if self._plugins is None:
            points = metadata.entry_points(group=ENTRY_POINT_GROUP)
            self._plugins = [_of_entry_point(point) for point in points]
        for plugin in self._plugins:
            found = plugin(self._reader)
            # A package may bring experts for several base models: the others' are no problem.
            if not (isinstance(found.result, Entry) and self._base.is_foreign(found.result.card)):
                yield found
        yield from self._shipped()

    def _shipped(self) -> Iterator[Found]:
        return self._reader.scan(self._shipped_folder, "shipped", skip=_EMBEDDED_BASE)

    def _known_base(self) -> BaseModel:
        """The base model; while it is not loaded, its shipped experts tell its fingerprint."""
        if self._base.fingerprint:
            return self._base
        cards = (found.result.card for found in self._shipped() if isinstance(found.result, Entry))
        known = next((card.base_fingerprint for card in cards if card.base_fingerprint), "")
        return replace(self._base, fingerprint=known)
