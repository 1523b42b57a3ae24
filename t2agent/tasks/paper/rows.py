"""The rows of a data set: from the `datasets` library, or from a folder of the user's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError
from t2agent.tasks.sources import json_lines

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


Rows = Sequence[dict[str, Any]]
"""A list, or a `datasets.Dataset`."""


def column(rows: Rows, name: str) -> Sequence[Any]:
    """One column of all rows, in order; of a Dataset, no other column is read."""
    if isinstance(rows, list):
        return [row[name] for row in rows]
    values: Any = rows[name]  # type: ignore[call-overload]
    return list(values)


def read_split(name: str, source: Source, split: str, folder: Path | None) -> Rows:
    """The rows of a split, by its name in the data set.

    Args:
        name: the task's.
        source: the data set.
        split: for instance "train" or "validation".
        folder: with ``<split>.jsonl`` or ``<split>.parquet`` (the latter needs `datasets`), or one
            that ``Dataset.save_to_disk`` made; images are paths in it. None for the Hub.

    Raises:
        ConfigError: the data are not to be had, or have not the columns.
    """
    if folder is None:
        rows = _from_hub(name, source, split)
    else:
        rows = _from_folder(name, source, split, folder)
    where = folder or source.repository
    if not len(rows):
        raise ConfigError(f"the split {split!r} of {where} is empty; needed rows for task {name!r}")
    missing = sorted(set(source.needs) - set(rows[0]))
    if missing:
        raise ConfigError(
            f"the split {split!r} of {where} has the columns {sorted(rows[0])}, not {missing}; "
            f"needed those of {source.repository}"
        )
    return rows


def data_folder(name: str, path: Path | str | None) -> Path | None:
    """The folder that a task's data come from, None for the Hub.

    Raises:
        ConfigError: ``path`` is no folder.
    """
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
        return _read_lines(lines, source)
    table = folder / f"{split}.parquet"
    if table.is_file():
        return _load(name, source, split, "parquet", data_files={split: str(table)})
    if (folder / "dataset_dict.json").is_file():
        stored = _datasets(name).load_from_disk(str(folder))
        if split in stored:
            return _undecoded(stored[split])
    raise ConfigError(
        f"the folder {folder} has no {split}.jsonl and no {split}.parquet; task {name!r} needs "
        f"the split {split!r} of {source.repository} there"
    )


def _read_lines(file: Path, source: Source) -> list[dict[str, Any]]:
    needed = f"needed an object with {', '.join(source.needs)}, the columns of {source.repository}"
    rows = []
    for place, row in json_lines(file, needed):
        if not row.keys() >= set(source.needs):
            raise ConfigError(f"{place}: {needed}, got {sorted(row)}")
        rows.append(row)
    return rows


def _from_hub(name: str, source: Source, split: str) -> Rows:
    tables = [_load(name, source, split, source.repository, config) for config in source.configs]
    if len(tables) == 1:
        return tables[0]
    joined: Rows = _datasets(name).concatenate_datasets(tables)
    return joined


def _load(name: str, source: Source, split: str, *arguments: Any, **options: Any) -> Rows:
    datasets = _datasets(name)
    try:
        return _undecoded(datasets.load_dataset(*arguments, split=split, **options))
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


def _undecoded(table: Any) -> Rows:
    """A Dataset with its images as {"bytes": ..., "path": ...}, for `t2agent.images` to read."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    rows: Rows = table
    return rows


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"task {name!r} needs the library `datasets`, which is not installed: {_INSTALL}; or "
            "give a folder of JSON-lines files as path="
        ) from error
    return datasets
