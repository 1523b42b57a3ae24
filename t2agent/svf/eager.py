"""Keeping compiled code away while layers have hooks.

torch.compile does not look for hooks on the modules of a model that it has compiled already: it
would run the base model's code without a word. While any context is adapted, compiled models run
uncompiled, in all threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()
_USERS = 0
_STANCE: Any = None


@contextmanager
def uncompiled() -> Iterator[None]:
    """What torch.compile has made is not used inside. Contexts of several threads may overlap."""
    global _USERS, _STANCE
    with _LOCK:
        if _USERS == 0:
            _STANCE = torch.compiler.set_stance("force_eager")
        _USERS += 1
    try:
        yield
    finally:
        with _LOCK:
            _USERS -= 1
            if _USERS == 0:
                _STANCE.__exit__(None, None, None)
