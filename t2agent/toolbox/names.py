"""What a misspelt name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60  # difflib's work grows with the square of the length


def nearest(name: object, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` where one of the known names is like this one, else nothing."""
    close = difflib.get_close_matches(str(name)[:_LONGEST], list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
