"""Keeping libraries from talking between the lines of an answer."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any


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
