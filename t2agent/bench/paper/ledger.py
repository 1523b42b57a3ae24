"""Results on disk, one file each, so that a run can be stopped, resumed and shared.

Several processes may run the same experiments in one folder: each result is computed by one of
them, and the others go on with what is left.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from t2agent.errors import ConfigError
from t2agent.files import write_text
from t2agent.progress import progress_bar

_POLL = 1.0  # seconds between two looks at what another process computes


@dataclass(frozen=True, slots=True)
class Job:
    """One result: its key, such as "unseen/math_hard/1", and what computes it, in plain JSON."""

    key: str
    compute: Callable[[], Any]


class Ledger:
    """The results of one configuration: another one (``identity``) has a folder of its own.

    Args:
        folder: where the results of all configurations are.
        identity: what the results depend on; plain JSON.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        text = json.dumps(identity, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "identity.json", json.dumps(identity, indent=2) + "\n")

    def __contains__(self, key: str) -> bool:
        return self._file(key).exists()

    def __getitem__(self, key: str) -> Any:
        """The result of a key.

        Raises:
            ConfigError: it is not there, or damaged.
        """
        try:
            return json.loads(self._file(key).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"there is no whole result {key!r} in {self.folder} ({error}); delete its file, if "
                "there is one, and run the benchmark again"
            ) from error

    def run(self, title: str, jobs: Iterable[Job], *, progress: bool) -> None:
        """Compute what is missing. Ends when all results are there, whoever computed them."""
        left = [job for job in jobs if job.key not in self]
        with progress_bar(title, len(left), progress) as bar:
            while left:
                waiting = []
                for job in left:
                    if job.key not in self:
                        with self._claimed(job.key) as mine:
                            if not mine:
                                waiting.append(job)
                                continue
                            if job.key not in self:
                                write_text(self._file(job.key), json.dumps(job.compute()) + "\n")
                    bar.advance(1, last=job.key)
                if len(waiting) == len(left):
                    time.sleep(_POLL)
                left = waiting

    def _file(self, key: str) -> Path:
        return self.folder / (re.sub(r"[^\w.-]+", "_", key) + ".json")

    @contextmanager
    def _claimed(self, key: str) -> Iterator[bool]:
        """Whether this process may compute the result: no other one is at it.

        The claim is a lock on a file, which ends with the process, however that ends.
        """
        try:
            held = FileLock(self._file(key).with_suffix(".lock")).acquire(blocking=False)
        except Timeout:
            yield False
            return
        with held:
            yield True
