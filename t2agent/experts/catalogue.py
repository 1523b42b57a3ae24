"""All experts of one base model that can be used at this moment, looked at again when needed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from t2agent.bundle import bundled
from t2agent.errors import ExpertMismatchError
from t2agent.experts import discovery
from t2agent.experts.card import ExpertCard
from t2agent.experts.compatibility import BaseModel
from t2agent.experts.discovery import Entry, FolderReader, Found, PluginReader, View
from t2agent.paths import home

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
        self._plugins: list[PluginReader] | None = None
        self._hidden: set[Entry] = set()
        self._cached: tuple[object, float, View] | None = None
        self._latest: tuple[tuple[Found, ...], View] | None = None
        self._judge = base
        self._judged: dict[Entry, ExpertMismatchError | None] = {}

    @property
    def user_folder(self) -> Path:
        """Where the user's experts lie; read from the environment at every call."""
        return home() / "experts" / self._base.slug

    def view(self, in_code: dict[str, Entry]) -> View:
        """What is there, ``in_code`` first.

        Two folders' time stamps are compared and no more while nothing changes, for up to a
        second: this is asked several times for each request.
        """
        user, shipped = self.user_folder, self._shipped_folder
        times = discovery.changed_at(user), discovery.changed_at(shipped)
        stamp = (user, times, tuple(in_code.values()))
        if (
            self._cached is not None
            and self._cached[0] == stamp
            and time.monotonic() < self._cached[1]
        ):
            return self._cached[2]
        usable = tuple(self._usable(in_code))
        if self._latest is None or self._latest[0] != usable:
            self._latest = usable, View.of(usable)
        view = self._latest[1]
        # A folder that changed just now can change again without its time stamp telling.
        settled = abs(time.time() - max(at or 0.0 for at in times)) > _CLOCK_GRAIN_SECONDS
        # From now on: a thousand folders may take longer than a second to read.
        until = time.monotonic() + (_RESCAN_SECONDS if settled else 0.0)
        self._cached = stamp, until, view
        return view

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
            self._plugins = discovery.entry_points()
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
        return dataclasses.replace(self._base, fingerprint=known)
