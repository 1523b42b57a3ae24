"""A Python package around an expert: ``t2agent experts new``.

What is written is in the folder ``template``, with ``$name`` and the like in it. The package has an
entry point in the group `t2agent.experts`, so whoever installs it has the expert in the registry.
It begins with z = 1, which changes nothing, and its own training script trains it.
"""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from t2agent import __version__
from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.experts.discovery import ENTRY_POINT_GROUP
from t2agent.experts.expert import Expert
from t2agent.files import replace_folder
from t2agent.paths import base_slug
from t2agent.train import Example, ExampleTask

if TYPE_CHECKING:
    from t2agent.models.model import T2Model

_TEMPLATE = Path(__file__).resolve().parent / "template"
_SUFFIX = ".template"
_PREFIX = "t2agent-"
_SUMS = 200  # examples where the user gives none
_NO_LICENCE = (
    "It has no licence yet: choose one, for `pyproject.toml` and for `LICENSE` in `train.py`."
)
_OPERANDS = range(2, 20)  # what t2-nano adds


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was written: its folder, what pip calls it, what Python imports."""

    folder: Path
    distribution: str
    module: str


def write_package(
    folder: Path | str,
    name: str,
    model: T2Model,
    *,
    examples: Sequence[Example] | None = None,
    reward: str = "auto",
    description: str = "",
    license: str = "",  # noqa: A002 - as on the card
) -> Package:
    """Write a package with an expert for ``model``, whole or not at all.

    The distribution is called "t2agent-" and the name in lower case, with "-" for all other
    characters, and the module the same with "_": no name can hide a module of somebody else's.

    Args:
        folder: of the package; it must not be there yet, or be empty.
        name: the expert's.
        model: the base model.
        examples: what the task is made of; None for sums that are answered with the bare number.
        reward: as of `t2agent.train.ExampleTask`.
        description: what the expert is for.
        license: of the package and on the card; nothing is said if not given.

    Raises:
        ConfigError: the folder holds something, the name cannot name an expert, or the examples do
            not make a task with two different prompts.
    """
    check_name(name)
    target = Path(folder)
    check_target(target)
    if examples is None:
        examples = _sums()
        description = description or "Sums, answered with the bare number."
    task = ExampleTask(name, examples, reward)
    if not task.split("val"):
        raise ConfigError(
            "the examples have one prompt only; give at least two different ones, better fifty"
        )
    distribution = distribution_name(name)
    module = distribution.replace("-", "_")
    description = " ".join(description.split()) or f"The expert {name}."
    values = {
        "name": name,
        "distribution": distribution,
        "module": module,
        "group": ENTRY_POINT_GROUP,
        "version": __version__,
        "reward": _quoted(reward),
        "shell_reward": shlex.quote(reward),
        "base": _quoted(model.name),
        "base_slug": base_slug(model.name),
        "shell_base": shlex.quote(model.name),
        "description": _quoted(description),
        "license": _quoted(license),
        "license_line": f"license = {{ text = {_quoted(license)} }}\n" if license else "",
        "license_note": f"Licence: {license}." if license else _NO_LICENCE,
    }
    with replace_folder(target) as temporary:
        for path, text in _files(module, values):
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_bytes(text.encode())
        _write_examples(temporary / "src" / module / "data", examples)
        _untrained(model, name, task, description, license).save(
            temporary / "src" / module / "expert"
        )
    return Package(target, distribution, module)


def check_target(folder: Path) -> None:
    """Raise ConfigError where a package cannot be written as ``folder``."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; give a new folder, or delete it")


def distribution_name(name: str) -> str:
    """What pip calls the package of an expert."""
    plain = re.sub(r"[-_.]+", "-", name).strip("-").lower()
    return plain if plain.startswith(_PREFIX) else _PREFIX + plain


def _files(module: str, values: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """The package's text files: path in it, and text."""
    for file in sorted(_TEMPLATE.rglob(f"*{_SUFFIX}")):
        path = file.relative_to(_TEMPLATE)
        path = path.with_name(path.name.removesuffix(_SUFFIX))
        if path.parts[0] == "package":
            path = Path("src", module, *path.parts[1:])
        elif path.name == "gitignore":
            path = Path(".gitignore")  # hidden files are not packaged
        yield path, Template(file.read_text("utf-8")).substitute(values)


def _write_examples(folder: Path, examples: Sequence[Example]) -> None:
    """``examples.jsonl``, as `ExampleTask.from_jsonl` reads it, with its images beside it."""
    folder.mkdir(parents=True)
    lines = []
    for number, example in enumerate(examples):
        line = {"prompt": example.prompt, "answer": example.answer}
        if example.image is not None:
            line["image"] = f"images/{number:05d}.png"
            (folder / "images").mkdir(exist_ok=True)
            example.image.save(folder / line["image"])
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "examples.jsonl").write_bytes("".join(lines).encode())


def _untrained(
    model: T2Model, name: str, task: ExampleTask, description: str, license_name: str
) -> Expert:
    """The expert that the package begins with, z = 1. It has no example requests, so that it is not
    dispatched to as if it had learnt them."""
    return Expert.identity(model, name).renamed(
        name,
        description=f"{description} Not trained yet: it answers as the base model does.",
        modality="text" if all(e.image is None for e in task.split("train")) else "image",
        license=license_name,
    )


def _sums() -> list[Example]:
    pairs = [(a, b) for a in _OPERANDS for b in _OPERANDS]
    drawn = random.Random(0).sample(pairs, _SUMS)
    return [Example(f"What is {a} + {b}?", str(a + b)) for a, b in drawn]


def _quoted(text: str) -> str:
    """A string as both Python and TOML write it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
