"""Experts taken from the Hub into the user's folder, their versions pinned in a lock file."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from t2agent.errors import ConfigError, ExpertError, ExpertFormatError, T2Error
from t2agent.experts import folder as expert_folder
from t2agent.experts import hub
from t2agent.experts.expert import Expert, from_files
from t2agent.experts.hub import HubOptions
from t2agent.experts.lock_file import LOCK_FILE, LockFile
from t2agent.experts.pins import PIN_FILE, Address, Pin
from t2agent.paths import home


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was downloaded. ``pin`` is of the repository's files, ``files`` are those to write."""

    expert: Expert
    pin: Pin
    files: Mapping[str, bytes] = field(repr=False)


class Pulls(ABC):
    """The part of a registry that takes experts from the Hub."""

    def pull(
        self,
        repo: str,
        *,
        revision: str | None = None,
        subfolder: str = "",
        name: str | None = None,
        replace: bool = False,
        update: bool = False,
        options: HubOptions | None = None,
    ) -> Expert:
        """Take an expert from the Hub into the user's folder, and pin its version.

        Without a revision, one that is pinned already stays at its version (nothing is asked of the
        Hub where it is there), and another is taken from the main branch.

        Args:
            repo: "user/name" or "user/name@revision".
            revision: a branch, a tag or a commit.
            subfolder: the folder in the repository, where it holds several experts.
            name: what to call it here; the name on its card if not given.
            replace: whether it may take the place of another expert of that name.
            update: whether to take the newest version of the branch that a pinned one is of.
            options: how the Hub is reached.

        Raises:
            ExpertNotFoundError, HubError, ConfigError: as `Expert.from_pretrained`.
            ExpertExistsError, ExpertMismatchError, ExpertFormatError: as `register`; the last also
                where files are not those that were pinned.
        """
        options = options or HubOptions()
        address, pins = Address.parse(repo, revision, subfolder), self.pins()
        pinned = _pinned_as(pins, address, name)
        if pinned is None or address.revision is not None:
            pulled = _download(address, name or pinned, options)
        elif update:
            pulled = _download(_newest(address, pins[pinned]), pinned, options)
        elif self._has(pinned, pins[pinned]):
            return self.get(pinned)
        else:
            pulled = _download_pinned(pins[pinned], pinned, options)
        return self._install(pulled, replace)

    def restore(
        self, *, replace: bool = False, options: HubOptions | None = None
    ) -> dict[str, Expert | T2Error]:
        """Pull every pinned expert that is not there at its very version.

        Args:
            replace: whether one may take the place of an expert of your own of its name.
            options: how the Hub is reached.

        Returns:
            The name of each pinned expert -> the expert, or why it cannot be had.

        Raises:
            ConfigError: the lock file is damaged.
        """
        done: dict[str, Expert | T2Error] = {}
        for name, pin in self.pins().items():
            try:
                if not self._has(name, pin):
                    pulled = _download_pinned(pin, name, options or HubOptions())
                    self._install(pulled, replace)
                done[name] = self.get(name)
            except T2Error as error:
                done[name] = error
        return done

    def pins(self) -> dict[str, Pin]:
        """Which versions the lock file asks for: name -> pin; raises ConfigError if damaged."""
        return self._lock_file.pins()

    @abstractmethod
    def get(self, name: str) -> Expert:
        """The expert of that name."""

    @abstractmethod
    def pin(self, name: str) -> Pin | None:
        """Where on the Hub an expert that is there is from; None for others."""

    @property
    @abstractmethod
    def _lock_file(self) -> LockFile: ...

    @abstractmethod
    def _install(self, pulled: Pulled, replace: bool) -> Expert: ...

    def _has(self, name: str, pin: Pin) -> bool:
        """Whether the pinned version is there."""
        try:
            there = self.pin(name)
        except ExpertError:
            return False
        return there is not None and there.address == pin.address and there.vectors == pin.vectors


def bases() -> list[str]:
    """The base models for which experts are pinned, sorted.

    Raises:
        ConfigError: a lock file is damaged.
    """
    return sorted({lock.base() for lock in _lock_files() if lock.pins()})


def base_of(repo: str, revision: str | None, subfolder: str, options: HubOptions) -> str:
    """The base model of an expert on the Hub: the one that it is pinned for, or of its card.

    Raises:
        ConfigError: its card names none, or it is pinned for several.
        ExpertNotFoundError, HubError, ExpertFormatError: as `hub.fetch`.
    """
    address = Address.parse(repo, revision, subfolder)
    pinned = {k.base() for k in _lock_files() if _pinned_as(k.pins(), address, None) is not None}
    if not pinned:
        fetched = hub.fetch(address, options)
        pinned = {from_files(fetched.files, str(address)).card.base}
    if len(pinned) != 1 or "" in pinned:
        named = ", ".join(sorted(pinned - {""})) or "none"
        raise ConfigError(f"{address} is for one of these base models: {named}; name one (--model)")
    return pinned.pop()


def _lock_files() -> Iterator[LockFile]:
    for path in sorted((home() / "experts").glob(f"*/{LOCK_FILE}")):
        yield LockFile(path.parent, path.parent.name)


def _pinned_as(pins: Mapping[str, Pin], address: Address, name: str | None) -> str | None:
    """The name under which what lies at ``address`` is pinned: ``name``, if that is given."""
    names = (one for one, pin in pins.items() if pin.is_of(address) and name in (None, one))
    return next(names, None)


def _newest(address: Address, pin: Pin) -> Address:
    """Where to look for a newer version than the pinned one: on the branch that it is of."""
    followed = None if pin.revision == pin.commit else pin.revision
    return dataclasses.replace(address, revision=followed)


def _download(address: Address, name: str | None, options: HubOptions) -> Pulled:
    """The expert at ``address``, under ``name`` where that is given; raises as `hub.fetch`."""
    return _downloaded(address, None, name, options)


def _download_pinned(pin: Pin, name: str, options: HubOptions) -> Pulled:
    """The pinned version.

    Raises:
        ExpertFormatError: the files are not those that were pinned.
        ExpertNotFoundError, HubError, ConfigError: as `hub.fetch`.
    """
    return _downloaded(pin.address, pin, name, options)


def _downloaded(
    address: Address, wanted: Pin | None, name: str | None, options: HubOptions
) -> Pulled:
    fetched = hub.fetch(address, options)
    pin = Pin(
        repo=address.repo,
        commit=fetched.commit,
        revision=address.revision if wanted is None else wanted.revision,
        subfolder=address.subfolder,
        **expert_folder.hashes(fetched.files),
    )
    if wanted is not None and wanted != pin:
        raise ExpertFormatError(
            f"{address} does not hold the files that were pinned: their SHA-256 are {pin.vectors} "
            f"and {pin.config}, not {wanted.vectors} and {wanted.config}. Someone changed them, or "
            "the pin; pull with update=True (--update) only if you trust what is there now."
        )
    expert = from_files(fetched.files, str(address))
    files, there = dict(fetched.files), pin
    if name is not None and name != expert.name:
        expert = Expert(dataclasses.replace(expert.card, name=name), expert.z)
        files = expert_folder.contents(expert.card, expert.z)
        there = dataclasses.replace(pin, **expert_folder.hashes(files))
    return Pulled(expert, pin, {**files, PIN_FILE: there.to_bytes()})
