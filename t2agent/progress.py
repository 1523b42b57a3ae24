"""A progress bar on stderr, so that stdout stays clean for answers and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Bar:
    """One bar. It counts also when nothing is drawn."""

    def __init__(self, drawing: tuple[Progress, TaskID] | None) -> None:
        self._drawing = drawing
        self.done = 0.0

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Move on by ``amount``; show ``fields`` (name and value) behind the bar."""
        self.done += amount
        if self._drawing is None:
            return
        progress, task = self._drawing
        if fields:
            shown = "  ".join(f"{name} {value}" for name, value in fields.items())
            progress.update(task, advance=amount, fields=shown)
        else:
            progress.update(task, advance=amount)

    def tell(self, text: str) -> None:
        """Show lines above the bar."""
        if self._drawing is not None:
            self._drawing[0].console.print(text, markup=False, highlight=False)


@contextmanager
def progress_bar(description: str, total: float | None, enabled: bool = True) -> Iterator[Bar]:
    """Show a bar on stderr while the block runs.

    Args:
        description: what is being done, in a few words.
        total: how many units there are; None when unknown.
        enabled: False draws nothing; the `Bar` can be used all the same.
    """
    if not enabled:
        yield Bar(None)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[fields]}", markup=False),
    )
    with Progress(*columns, console=_console()) as progress:
        yield Bar((progress, progress.add_task(description, total=total, fields="")))


@contextmanager
def no_transformers_bars(enabled: bool = True) -> Iterator[None]:
    """Keep transformers from drawing bars of its own while the block runs; nothing where not
    enabled."""
    from transformers.utils import logging

    shown = enabled and logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@cache
def _console() -> Console:
    # One console for all bars: rich nests the live displays of one console, not of several.
    from rich.console import Console

    return Console(stderr=True)
