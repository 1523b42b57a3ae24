"""Where things lie on disk: the user's folder, and what comes with t2agent."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from t2agent.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def home() -> Path:
    """The user's t2agent folder: ``$T2AGENT_HOME``, else ``~/.local/share/t2agent``.

    Read from the environment at every call, so that a test or a job can move it. Not created here.
    """
    configured = os.environ.get("T2AGENT_HOME", "").strip()
    if configured:
        return Path(configured).expanduser().absolute()
    return Path.home() / ".local" / "share" / "t2agent"


def is_gguf(name: str) -> bool:
    """Whether a base model's name is that of a GGUF file."""
    return name.lower().endswith(".gguf")


def is_path(name: str) -> bool:
    """Whether a base model's name has the form of a local path rather than of a Hub repository.

    Only the form is looked at, never the disk, so that a name means the same in every folder.
    """
    starts = name.startswith(("/", "./", "../", "~")) or name in (".", "..")
    return starts or name.count("/") > 1 or is_gguf(name)


def check_there(name: str) -> None:
    """Raise ConfigError where a base model is named by a path where no folder or GGUF file is."""
    place = Path(name).expanduser()
    if is_path(name) and not place.is_dir() and not (is_gguf(name) and place.is_file()):
        what = "it is a file" if place.exists() else "there is no such folder or file"
        raise ConfigError(
            f"cannot load the base model {name!r}: {what}; give a checkpoint's folder, a GGUF "
            "file, a name on the Hub such as 'Qwen/Qwen2-0.5B', or 't2-nano'"
        )


def base_slug(name: str) -> str:
    """The folder name of a base model: ``Qwen/Qwen2-0.5B`` gives ``Qwen--Qwen2-0.5B``.

    A local path gives its last part. Characters outside ``A-Za-z0-9._-`` become ``-``.

    Raises:
        ConfigError: it is no string, or nothing that could name a folder is left.
    """
    given: object = name
    if not isinstance(given, str):
        raise ConfigError(f"a base model is named by a string, but {given!r:.80} was given")
    slug = _slug(name.strip())
    if not slug:
        raise ConfigError(
            f"{name!r} does not name a base model; give a Hub name such as 'Qwen/Qwen2-0.5B', "
            "'t2-nano', or the path of a checkpoint's folder"
        )
    return slug


def public_name(name: str) -> str:
    """A base model's name for others to read: the path of this machine would help nobody. "" for a
    path whose last part names nothing, such as "/"."""
    return _slug(name.strip()) if is_path(name) else name


def _slug(name: str) -> str:
    if is_path(name):
        name = os.path.basename(os.path.abspath(os.path.expanduser(name)))
    return _UNSAFE.sub("-", name.replace("/", "--")).lstrip(".-")


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
