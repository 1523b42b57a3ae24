"""Experts taken from the Hub into the user's folder, their versions pinned in a lock file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts import folder as expert_folder
from t2agent.experts import hub
from t2agent.experts.expert import Expert, from_files
from t2agent.experts.hub import HubOptions
from t2agent.experts.pins import LOCK_FILE, PIN_FILE, Address, LockFile, Pin
from t2agent.paths import home


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was downloaded. ``pin`` is of the repository's files, ``files`` are those to write."""

    expert: Expert
    pin: Pin
    files: Mapping[str, bytes] = field(repr=False)


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
    pinned = {k.base() for k in _lock_files() if pinned_as(k.pins(), address, None) is not None}
    if not pinned:
        files, _ = hub.fetch(address, options)
        pinned = {from_files(files, str(address)).card.base}
    if len(pinned) != 1 or "" in pinned:
        named = ", ".join(sorted(pinned - {""})) or "none"
        raise ConfigError(f"{address} is for one of these base models: {named}; name one (--model)")
    return pinned.pop()


def _lock_files() -> Iterator[LockFile]:
    for path in sorted((home() / "experts").glob(f"*/{LOCK_FILE}")):
        yield LockFile(path.parent, path.parent.name)


def pinned_as(pins: Mapping[str, Pin], address: Address, name: str | None) -> str | None:
    """The name under which what lies at ``address`` is pinned: ``name``, if that is given."""
    names = (one for one, pin in pins.items() if pin.is_of(address) and name in (None, one))
    return next(names, None)


def newest(address: Address, pin: Pin) -> Address:
    """Where to look for a newer version than the pinned one: on the branch that it is of."""
    followed = None if pin.revision == pin.commit else pin.revision
    return dataclasses.replace(address, revision=followed)


def download(
    address: Address, name: str | None, options: HubOptions, wanted: Pin | None = None
) -> Pulled:
    """The expert at ``address``, under ``name`` where that is given.

    wanted: the pin that ``address`` is of, where what is there must be what was pinned.

    Raises:
        ExpertFormatError: the files are not those that were pinned.
        ExpertNotFoundError, HubError, ConfigError: as `hub.fetch`.
    """
    files, commit = hub.fetch(address, options)
    pin = Pin(
        repo=address.repo,
        commit=commit,
        revision=address.revision if wanted is None else wanted.revision,
        subfolder=address.subfolder,
        **expert_folder.hashes(files),
    )
    if wanted is not None and wanted != pin:
        raise ExpertFormatError(
            f"{address} does not hold the files that were pinned: their SHA-256 are {pin.vectors} "
            f"and {pin.config}, not {wanted.vectors} and {wanted.config}. Someone changed them, or "
            "the pin; pull with update=True (--update) only if you trust what is there now."
        )
    expert, there = from_files(files, str(address)), pin
    if name is not None and name != expert.name:
        expert = expert.renamed(name)
        files = expert_folder.contents(expert.card, expert.z)
        there = dataclasses.replace(pin, **expert_folder.hashes(files))
    return Pulled(expert, pin, {**files, PIN_FILE: there.to_bytes()})
