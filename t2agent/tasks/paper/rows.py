"""The rows of a data set: from the `datasets` library, or from a folder of the user's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from t2agent.errors import ConfigError

ENVIRONMENT = "T2AGENT_TASK_DATA"
"""The variable that names a folder with a folder for each task."""

_INSTALL = "pip install 't2agent[data]'"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set lies on the Hub.

    Args:
        repository: its name there.
        configs: its configurations, whose rows are joined.
        needs: the columns without which a row is of no use.
    """

    repository: str
    configs: tuple[str | None, ...]
    needs: tuple[str, ...]


class Rows(Protocol):
    """Rows by number, and one column of all of them."""

    def __len__(self) -> int:
        """How many rows."""

    def row(self, index: int) -> dict[str, Any]:
        """All columns of a row."""

    def column(self, name: str) -> Sequence[Any]:
        """A column of all rows, in order."""


class _Listed:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def column(self, name: str) -> Sequence[Any]:
        return [row[name] for row in self._rows]


class _Table:
    """A `datasets.Dataset`; images as {"bytes": ..., "path": ...}, for `t2agent.images` to read."""

    def __init__(self, table: Any) -> None:
        import datasets

        for name, feature in table.features.items():
            if isinstance(feature, datasets.Image):
                table = table.cast_column(name, datasets.Image(decode=False))
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def row(self, index: int) -> dict[str, Any]:
        return dict(self.table[index])

    def column(self, name: str) -> Sequence[Any]:
        values: Sequence[Any] = self.table[name][:]
        return values


def read_split(name: str, source: Source, split: str, path: Path | str | None = None) -> Rows:
    """The rows of a split, by its name in the data set.

    Args:
        name: the task's.
        source: the data set.
        split: for instance "train" or "validation".
        path: a folder with ``<split>.jsonl`` or ``<split>.parquet`` (the latter needs `datasets`),
            or one that ``Dataset.save_to_disk`` made; images are paths in it.

    Raises:
        ConfigError: the data are not to be had, or have not the columns.
    """
    folder = _folder(name, path)
    if folder is None:
        rows: Rows = _from_hub(name, source, split)
        where = source.repository
    else:
        rows = _from_folder(name, source, split, folder)
        where = str(folder)
    if not len(rows):
        raise ConfigError(f"the split {split!r} of {where} is empty; needed rows for task {name!r}")
    missing = sorted(set(source.needs) - set(rows.row(0)))
    if missing:
        raise ConfigError(
            f"the split {split!r} of {where} has the columns {sorted(rows.row(0))}, not {missing}; "
            f"needed those of {source.repository}"
        )
    return rows


def data_folder(name: str, path: Path | str | None) -> Path | None:
    """The folder that a task's data come from, None for the Hub."""
    return _folder(name, path)


def _folder(name: str, path: Path | str | None) -> Path | None:
    if path is not None:
        folder = Path(path)
        if not folder.is_dir():
            raise ConfigError(
                f"got path={str(path)!r} for task {name!r}, which is no folder; needed one with "
                "train.jsonl, test.jsonl and the like"
            )
        return folder
    configured = os.environ.get(ENVIRONMENT, "").strip()
    if configured and (Path(configured) / name).is_dir():
        return Path(configured) / name
    return None


def _from_folder(name: str, source: Source, split: str, folder: Path) -> Rows:
    lines = folder / f"{split}.jsonl"
    if lines.is_file():
        return _Listed(_read_lines(lines, source))
    table = folder / f"{split}.parquet"
    if table.is_file():
        return _load(name, source, split, "parquet", data_files={split: str(table)})
    if (folder / "dataset_dict.json").is_file():
        datasets = _datasets(name)
        stored = datasets.load_from_disk(str(folder))
        if split in stored:
            return _Table(stored[split])
    raise ConfigError(
        f"the folder {folder} has no {split}.jsonl and no {split}.parquet; task {name!r} needs "
        f"the split {split!r} of {source.repository} there"
    )


def _read_lines(file: Path, source: Source) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file}, line {number}: not a JSON object ({error})") from error
        if not isinstance(row, dict) or not row.keys() >= set(source.needs):
            raise ConfigError(
                f"{file}, line {number}: needed an object with {', '.join(source.needs)}, the "
                f"columns of {source.repository}"
            )
        rows.append(row)
    return rows


def _from_hub(name: str, source: Source, split: str) -> Rows:
    tables = [
        _load(name, source, split, source.repository, config).table for config in source.configs
    ]
    if len(tables) == 1:
        return _Table(tables[0])
    return _Table(_datasets(name).concatenate_datasets(tables))


def _load(name: str, source: Source, split: str, *arguments: Any, **options: Any) -> _Table:
    datasets = _datasets(name)
    try:
        return _Table(datasets.load_dataset(*arguments, split=split, **options))
    except Exception as error:  # its own, the Hub's, the network's and the file system's
        named = " ".join(str(a) for a in arguments if a is not None)
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
        raise ConfigError(
            f"cannot load the split {split!r} of {named} for task {name!r} "
            f"({type(error).__name__}: {reason}). Download it where there is a network, with "
            f'python -c "import datasets; datasets.load_dataset({", ".join(map(repr, arguments))})'
            '", and set HF_HOME to the folder that it went to (HF_HUB_OFFLINE=1 then keeps from '
            f"asking the network); or put {split}.jsonl with the rows of {source.repository} "
            f"into a folder and give it as path=, or as {name}/ in the folder that "
            f"${ENVIRONMENT} names"
        ) from error


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"task {name!r} needs the library `datasets`, which is not installed: {_INSTALL}; or "
            "give a folder of JSON-lines files as path="
        ) from error
    return datasets
