"""`experts.lock.json`: which versions of which experts of the Hub a base model's user wants.

It states the wish; what is there tells `expert_pin.json` in each folder. It is therefore written
before a folder is changed: after a kill in between, the registry has the old expert, and pulling
what is pinned brings the new one. The registry loads without reading it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.experts.pins import Pin
from t2agent.files import write_text
from t2agent.paths import public_name

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
        lock = FileLock(self.path.with_name(_HELD_FILE), timeout=_WAIT_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"another process has been changing {self.path} for {_WAIT_SECONDS:.0f} seconds; "
                "wait for it or end it"
            ) from error
        try:
            yield
        finally:
            lock.release()
