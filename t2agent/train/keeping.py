"""Where a training is kept whose caller names no folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from t2agent.errors import ConfigError, ExpertExistsError
from t2agent.paths import base_slug, home


def run_folder(base: str, name: str) -> Path:
    """``$T2AGENT_HOME/runs/<base>/<name>``."""
    return home() / "runs" / base_slug(base) / name


def first_process() -> bool:
    """Whether this is the first of the processes of one training, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def alone(base: str, name: str) -> Iterator[Path]:
    """The folder of a training by this name, which no other training has meanwhile.

    Of several processes of one training, the first holds it for all.

    Raises:
        ExpertExistsError: another process trains an expert of this name for this base model.
        ConfigError: nothing can be written there.
    """
    folder = run_folder(base, name)
    if not first_process():
        yield folder
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{name}.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ExpertExistsError(
            f"another process is training an expert {name!r} for this model: wait for it, or give "
            "another name"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"a training cannot be kept in {folder} ({error.strerror or error}); set T2AGENT_HOME "
            "to a folder that can be written, or give checkpoint= one"
        ) from error
    try:
        yield folder
    finally:
        lock.release()
