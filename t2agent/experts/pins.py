"""Where on the Hub an expert's folder was pulled from, and what its files must hold.

`expert_pin.json` lies in the folder beside the vectors, so that the one step that replaces a folder
replaces its pin too: a process killed meanwhile leaves both old or both new.

`experts.lock.json`: which versions of which experts of the Hub a base model's user wants.

It states the wish; what is there tells `expert_pin.json` in each folder. It is therefore written
before a folder is changed: after a kill in between, the registry has the old expert, and pulling
what is pinned brings the new one. The registry loads without reading it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.files import write_text
from t2agent.paths import is_path, public_name

PIN_FILE = "expert_pin.json"

_SCHEME = "hf://"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?")
# What git allows in the name of a branch or tag, and nothing that leads out of a folder.
_REVISION = re.compile(
    r"(?!.*(\.\.|//|@\{))[A-Za-z0-9_][^\s\x00-\x20\x7f~^:?*\[\\]{0,199}(?<![/.])"
)
_SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True)
class Address:
    """An expert on the Hub: ``repo`` ("user/name"), ``revision`` (a branch, a tag or a commit; None
    is the main branch) and the folder in the repository, "" where the expert lies at its top.

    Raises:
        ConfigError: one of them cannot be such.
    """

    repo: str
    revision: str | None = None
    subfolder: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.repo, str) or not _REPO.fullmatch(self.repo):
            raise ConfigError(
                f"{self.repo!r:.120} is no repository of the Hub; give 'user/name' or "
                "'user/name@revision'"
            )
        if self.revision is not None and not _is(_REVISION, self.revision):
            raise ConfigError(
                f"{self.revision!r:.120} is no revision; give a branch, a tag or a commit"
            )
        if self.subfolder and not _is(_SUBFOLDER, self.subfolder):
            raise ConfigError(
                f"{self.subfolder!r:.120} is no folder inside a repository; give one such as 'math'"
            )

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}" + (f" (folder {self.subfolder})" if self.subfolder else "")

    @classmethod
    def parse(cls, text: str, revision: str | None = None, subfolder: str = "") -> Address:
        """The address in ``user/name`` or ``user/name@revision``.

        Raises:
            ConfigError: it is none, or two revisions are given.
        """
        given: object = text
        if not isinstance(given, str):
            raise ConfigError(f"a repository is named by a string, but {given!r:.80} was given")
        repo, at, in_text = text.strip().removeprefix(_SCHEME).partition("@")
        if at and revision is not None and revision != in_text:
            raise ConfigError(
                f"{text!r} names the revision {in_text!r}, and revision={revision!r} is given too; "
                "give one of them"
            )
        return cls(repo, in_text if at else revision, subfolder)

    @staticmethod
    def is_folder(text: str) -> bool:
        """Whether a text means a folder of this machine rather than a repository of the Hub."""
        name = text.removeprefix(_SCHEME).partition("@")[0]
        return os.path.isdir(text) or (is_path(name) and not text.startswith(_SCHEME))

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit, which can never mean anything else."""
        return self.revision is not None and _is(_COMMIT, self.revision)


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of one expert on the Hub.

    ``revision`` is what was asked for, ``commit`` what it stood for. ``vectors`` and ``config`` are
    the SHA-256 of `expert.safetensors` and `expert_config.json`.

    Raises:
        ConfigError: a value cannot be what it is said to be.
    """

    repo: str
    commit: str
    vectors: str
    config: str
    revision: str | None = None
    subfolder: str = ""

    def __post_init__(self) -> None:
        Address(self.repo, self.revision, self.subfolder)
        hashes = _is(_SHA256, self.vectors) and _is(_SHA256, self.config)
        if not hashes or not _is(_COMMIT, self.commit):
            raise ConfigError(f"the pin of {self.repo!r} has no full commit or no SHA-256")

    @property
    def address(self) -> Address:
        """Where exactly this version is."""
        return Address(self.repo, self.commit, self.subfolder)

    def is_of(self, address: Address) -> bool:
        """Whether it pins what lies at an address, in whichever version."""
        return (self.repo, self.subfolder) == (address.repo, address.subfolder)

    def to_dict(self) -> dict[str, Any]:
        """The pin in plain JSON."""
        return {key.name: getattr(self, key.name) for key in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, plain: object) -> Pin:
        """The pin that `to_dict` wrote. Keys that this version does not know are left out.

        Raises:
            ConfigError: a key is missing or its value unusable.
        """
        keys = {key.name for key in dataclasses.fields(cls)}
        if not isinstance(plain, dict) or not {"repo", "commit", "vectors", "config"} <= set(plain):
            raise ConfigError("a pin must be a JSON object with repo, commit, vectors and config")
        return cls(**{key: value for key, value in plain.items() if key in keys})

    def to_bytes(self) -> bytes:
        """The content of `expert_pin.json`."""
        return (json.dumps(self.to_dict(), indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Pin:
        """What `to_bytes` wrote; raises ConfigError where it is damaged."""
        try:
            plain = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"it is not JSON ({error})") from error
        return cls.from_dict(plain)


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


LOCK_FILE = "experts.lock.json"

_VERSION = 1
_MAX_BYTES = 16 * 2**20
_HELD_FILE = ".experts.lock"
_WAIT_SECONDS = 60.0


class LockFile:
    """The lock file in ``folder``, where the experts of the base model ``base`` lie."""

    def __init__(self, folder: Path, base: str) -> None:
        self.path = folder / LOCK_FILE
        self._base = public_name(base)

    def pins(self) -> dict[str, Pin]:
        """The expert's name -> its pin, sorted by name; none where there is no lock file.

        Raises:
            ConfigError: the file cannot be read or is damaged.
        """
        return self._read()[1]

    def base(self) -> str:
        """The name of the base model; raises as `pins`."""
        return self._read()[0]

    @contextmanager
    def pinning(self, name: str, pin: Pin | None) -> Iterator[None]:
        """Pin an expert, or unpin it (None), while the block puts it where it belongs.

        If the block raises, the lock file is as it was. One process at a time is in here.

        Raises:
            ConfigError: as `pins`, or another process stays in here.
        """
        if pin is None and not self.path.exists():
            yield  # nothing is pinned: no file is made for that
            return
        with self._held():
            before = self.pins()
            after = {**before, name: pin}
            wanted = {key: one for key, one in after.items() if one is not None}
            if wanted == before:
                yield
                return
            self._write(wanted)
            try:
                yield
            except BaseException:
                self._write(before)
                raise

    def _read(self) -> tuple[str, dict[str, Pin]]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return self._base, {}
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read ({error.strerror})") from error
        try:
            if len(data) > _MAX_BYTES:
                raise ConfigError(f"it has more than {_MAX_BYTES:,} bytes")
            plain = json.loads(data.decode("utf-8"))
            if not isinstance(plain, dict) or plain.get("version") != _VERSION:
                raise ConfigError(f"it is no JSON object of version {_VERSION}")
            base, experts = plain.get("base"), plain.get("experts")
            if not isinstance(base, str) or not isinstance(experts, dict):
                raise ConfigError("it lacks 'base' or 'experts'")
            return base, {check_name(k): Pin.from_dict(experts[k]) for k in sorted(experts)}
        except (ValueError, RecursionError) as error:  # a ConfigError is a ValueError
            raise ConfigError(
                f"{self.path} is damaged: {error}. Put a good copy there, or delete it; experts "
                "that are there already stay usable."
            ) from error

    def _write(self, pins: Mapping[str, Pin]) -> None:
        experts = {name: pins[name].to_dict() for name in sorted(pins)}
        plain = {"version": _VERSION, "base": self._base, "experts": experts}
        write_text(self.path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    @contextmanager
    def _held(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.path.with_name(_HELD_FILE), timeout=_WAIT_SECONDS).acquire()
        except Timeout as error:
            raise ConfigError(
                f"another process has been changing {self.path} for {_WAIT_SECONDS:.0f} seconds; "
                "wait for it or end it"
            ) from error
        with lock:
            yield
