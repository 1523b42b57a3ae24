"""Which experts' folders have been read and found whole, remembered for later processes.

Reading and hashing the vectors of a thousand experts takes seconds, so that the next process looks
at the files' inode, size and times only (as git's index does). Nothing is used on the strength of
it: whoever loads an expert reads its vectors whole, and checks them against their hash.

The file is ``$T2AGENT_HOME/cache/verified_experts.json``. What cannot be read is as good as not
there, and it is never an error.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from t2agent.files import write_text
from t2agent.paths import home

_LOG = logging.getLogger(__name__)
_VERSION = 1
_MOST_BYTES = 64 * 2**20
_FEW = 32  # folders that are read as fast as the file would be
# A file that changed just now can change again without its times telling.
_CLOCK_GRAIN_NS = 50_000_000

Signature = tuple[tuple[int, ...], ...]
"""Inode, size, and times in nanoseconds of each of an expert's files."""


class Verified:
    """Folders that were found whole -> the signature that their files had then.

    A folder's name stands for itself: it is absolute.
    """

    def __init__(self) -> None:
        self._path = home() / "cache" / "verified_experts.json"
        self._known = _read(self._path)

    def holds(self, folder: Path, signature: Signature) -> bool:
        """Whether the files are those that were found whole."""
        return self._known.get(str(folder)) == signature

    def update(self, parent: Path, whole: Mapping[Path, Signature]) -> None:
        """Remember the folders in ``parent`` that are whole now, and forget the others there."""
        latest = time.time_ns() - _CLOCK_GRAIN_NS
        settled = {
            str(folder): signature
            for folder, signature in whole.items()
            if all(max(times[2:]) < latest for times in signature)
        }
        if len(settled) < _FEW:
            return
        stored = _read(self._path)  # another process may have written meanwhile
        elsewhere = {f: s for f, s in stored.items() if Path(f).parent != parent}
        if {**elsewhere, **settled} == stored:
            return
        plain = {"version": _VERSION, "folders": {**elsewhere, **settled}}
        try:
            write_text(self._path, json.dumps(plain))
        except OSError as error:
            _LOG.info("%s is not written: %s", self._path, error)  # read-only, or full


def _read(path: Path) -> dict[str, Signature]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        plain = json.loads(path.read_bytes())
        if plain["version"] != _VERSION:
            return {}
        return {
            folder: tuple(tuple(map(int, one)) for one in signature)
            for folder, signature in plain["folders"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _LOG.info("%s is not used: %s", path, error)
        return {}
