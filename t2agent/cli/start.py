"""Getting a base model ready soon after the shell's prompt."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from t2agent.cli.command import console

if TYPE_CHECKING:
    from t2agent.models.model import T2Model


@contextmanager
def starting(what: str, *, show: bool) -> Iterator[None]:
    """Import and load inside: without garbage collection, with a line on a terminal's stderr.

    Importing PyTorch and transformers leaves millions of objects and hardly any garbage, but the
    collector walks over them again and again: a sixth of the time, measured.
    """
    terminal = console(stderr=True)
    collecting = gc.isenabled()
    gc.disable()
    try:
        if show and terminal.is_terminal:
            with terminal.status(what):
                yield
        else:
            yield
    finally:
        if collecting:
            gc.enable()


def load(model: str, *, targets: str = "all", dtype: str = "auto") -> T2Model:
    """The base model of that name."""
    from t2agent.models.model import T2Model

    return T2Model.from_pretrained(model, targets=targets, dtype=dtype)
