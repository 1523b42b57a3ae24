"""Getting a base model ready soon after the shell's prompt, without libraries talking meanwhile."""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from t2agent.cli.command import console

if TYPE_CHECKING:
    from t2agent.models.model import T2Model


@contextmanager
def starting(what: str, *, show: bool) -> Iterator[None]:
    """Import and load inside: without garbage collection, with a line on a terminal's stderr.

    Importing PyTorch and transformers leaves millions of objects and hardly any garbage, but the
    collector walks over them again and again: a sixth of the time, measured. What was loaded stays
    until the process ends, so that later collections pass it over: three tenths of a second each.
    """
    terminal = console(stderr=True)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with terminal.status(what) if show and terminal.is_terminal else nullcontext():
            yield
    finally:
        if collecting:
            gc.freeze()
            gc.enable()


def load(model: str, *, show: bool, targets: str = "all", dtype: str = "auto") -> T2Model:
    """The base model of that name; ``show`` as of `starting`."""
    with starting(f"Loading {model}", show=show):
        from t2agent.models.model import T2Model

        return T2Model.from_pretrained(model, targets=targets, dtype=dtype)


def quiet() -> None:
    """Settle, before libraries are imported, what they may print; the environment wins."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        # Warnings of libraries are for developers; ours concern the user.
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("default", module=r"t2agent(\.|$)")
    warnings.showwarning = _show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 shows a mark instead of ending the answer.
            stream.reconfigure(errors="replace")


def _show(message: Warning | str, *_where: Any, **_more: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
