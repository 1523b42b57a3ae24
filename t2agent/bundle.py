"""Where the tools and experts that come with t2agent lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def bundled(kind: Literal["experts", "tools"]) -> Path:
    """The folder of the shipped experts or tools.

    In an installed package ``<package>/_bundle/<kind>``; in a checkout or an editable install the
    folder of that name beside pyproject.toml. The folder may be missing in a broken install: the
    path of an installed package is returned all the same, and holds nothing.
    """
    inside = _PACKAGE / "_bundle" / kind
    if inside.is_dir():
        return inside
    # Only a checkout: beside an installed package `experts` and `tools` belong to someone else.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return _PACKAGE.parent / kind
    return inside
