"""Files of real data: which kind their rows are of, and what is asked for each.

A file of JSON lines (``.jsonl``, ``.jsonl.gz``) holds rows of one kind, which shows in their fields;
files whose names begin alike (labels_dev, labels_news) are one case. Training files (``_train`` in
the name) are left out.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2agent.bench.datasets import SHARED, read_json, read_jsonl
from t2agent.bench.real.forms import field_schema, label_request
from t2agent.errors import ConfigError

Row = Mapping[str, Any]

REAL = SHARED / "real"

_NAMES: tuple[str, ...] = (
    "tool_calls", "bfcl", "tool_answers", "labels", "extract", "arith", "gsm8k", "choice", "mbpp"
)  # fmt: skip
_ENDINGS = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one form.

    Attributes:
        fields: what tells them from those of the kinds after it.
        expert: the name of the one that is trained for them.
        max_tokens: of a reply.
    """

    fields: frozenset[str]
    expert: str
    max_tokens: int


KINDS: Mapping[str, Kind] = {
    "bfcl": Kind(frozenset({"prompt", "tools", "category", "ground_truth"}), "tools", 256),
    "calls": Kind(frozenset({"prompt", "tools", "calls"}), "tools", 256),
    "answers": Kind(frozenset({"messages", "tools", "must_say"}), "answer", 96),
    "labels": Kind(frozenset({"text", "label", "labels"}), "label", 24),
    "extract": Kind(frozenset({"text", "fields"}), "extract", 192),
    "choice": Kind(frozenset({"prompt", "answer", "choices"}), "choice", 192),
    "code": Kind(frozenset({"prompt", "test", "entry_point"}), "code", 256),
    "number": Kind(frozenset({"prompt", "answer"}), "arithmetic", 192),
}
"""By name, the first that fits a row is its kind."""


@dataclass(frozen=True, slots=True)
class Case:
    """The rows of all files of one beginning; ``sets`` tells for each row which set it is of: its
    file's, and in that its source's."""

    name: str
    kind: str
    rows: tuple[Row, ...]
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a chat model is asked: messages, and what is bound to it.

    Attributes:
        messages: in OpenAI's form.
        tools, tool_choice: of `bind_tools`; no tools: nothing is bound.
        schema: of `with_structured_output`.
        max_tokens: of the reply.
    """

    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None


def read_cases(
    folder: Path | str, chosen: Sequence[str] = (), most: int | None = None, seed: int = 0
) -> list[Case]:
    """The cases of a folder's files, in the order of their names.

    Args:
        folder: where the files are; of other files nothing is read but extract_fields.json, {source:
            [names of fields]}.
        chosen: names of cases; all without.
        most: rows of a case, drawn by the seed as evenly from its sets as they allow.

    Raises:
        ConfigError: there is no such file, a chosen case is not there, or a row is of no known kind
            or of another one than its case's.
    """
    files = sorted(path for path in Path(folder).glob("*") if _is_measured(path))
    if not files:
        raise ConfigError(
            f"{folder} holds no file of rows (.jsonl or .jsonl.gz, without _train in the name); "
            "give the folder that holds them, as --data or --held-out"
        )
    by_case: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_case[_case_of(path)].append(path)
    if missing := set(chosen) - by_case.keys():
        raise ConfigError(
            f"{folder} has no rows of {', '.join(sorted(missing))}; there are "
            f"{', '.join(sorted(by_case))}"
        )
    names = [name for name in (*_NAMES, *sorted(by_case)) if name in (chosen or by_case)]
    return [
        _read(name, by_case[name], most, seed) for name in dict.fromkeys(names) if by_case[name]
    ]


def asked(case: Case, tool_choice: str = "any") -> list[Asked]:
    """What is asked for each row of a case. tool_choice: where calls are asked for; rows that want
    none are asked with "auto"."""
    schemas = _schemas(case) if case.kind == "extract" else {}
    most = KINDS[case.kind].max_tokens
    return [
        _asked(case.kind, row, most, tool_choice, schemas.get(own))
        for row, own in zip(case.rows, case.sets, strict=True)
    ]


def _asked(
    kind: str, row: Row, most: int, tool_choice: str, schema: Mapping[str, Any] | None
) -> Asked:
    if kind == "answers":
        return Asked(tuple(row["messages"]), most, tuple(row["tools"]))
    if kind in ("bfcl", "calls"):
        messages = row.get("messages") or _user(row["prompt"])
        choice = "auto" if "relevance" in row.get("category", "") else tool_choice
        return Asked(tuple(messages), most, tuple(row["tools"]), choice)
    if kind == "labels":
        return Asked(_user(label_request(row["text"], row["labels"])), most)
    return Asked(_user(row["text" if kind == "extract" else "prompt"]), most, schema=schema)


def _user(text: str) -> tuple[Mapping[str, Any], ...]:
    return ({"role": "user", "content": text},)


def _is_measured(path: Path) -> bool:
    return path.name.endswith(_ENDINGS) and "_train" not in path.name


def _case_of(path: Path) -> str:
    stem = path.name.split(".")[0]
    known = next((name for name in _NAMES if stem.startswith(name)), None)
    return known or stem.removesuffix("_dev").removesuffix("_test")


def _read(name: str, files: Sequence[Path], most: int | None, seed: int) -> Case:
    kind = ""
    found: dict[str, list[Row]] = defaultdict(list)
    for path in files:
        listed = _fields_file(path)
        for number, row in enumerate(read_jsonl(path), 1):
            own = next((key for key, one in KINDS.items() if row.keys() >= one.fields), None)
            if own is None or (kind and own != kind):
                raise ConfigError(
                    f"{path}, row {number} has the fields {', '.join(row)}: "
                    + (f"it is of kind {own!r}, the rows before of {kind!r}" if own else "no kind")
                    + "; needed are those of one of "
                    + "; ".join(
                        f"{key}: {', '.join(sorted(one.fields))}" for key, one in KINDS.items()
                    )
                )
            kind = own
            source = str(row.get("category") or row.get("source") or "")
            where = f"{path.name.split('.')[0]} {source}".strip()
            if source in listed:
                row["names"] = listed[source]
            found[where].append(row)
    drawn = [(row, where) for where, rows in _drawn(found, most, seed).items() for row in rows]
    return Case(name, kind, tuple(row for row, _ in drawn), tuple(where for _, where in drawn))


def _fields_file(path: Path) -> Mapping[str, Sequence[str]]:
    beside = path.parent / "extract_fields.json"
    return read_json(beside) if path.name.startswith("extract") and beside.exists() else {}


def _drawn(
    found: Mapping[str, Sequence[Row]], most: int | None, seed: int
) -> dict[str, Sequence[Row]]:
    """So many rows, the same number of each set while they last."""
    if most is None or most >= sum(map(len, found.values())):
        return dict(found)
    shuffled = {
        where: random.Random(f"{seed} {where}").sample(rows, len(rows))
        for where, rows in found.items()
    }
    taken = {where: 0 for where in found}
    while sum(taken.values()) < most:
        open_ = [where for where in found if taken[where] < len(found[where])]
        least = min(open_, key=lambda where: taken[where])
        taken[least] += 1
    return {where: shuffled[where][:count] for where, count in taken.items()}


def _schemas(case: Case) -> dict[str, Mapping[str, Any]]:
    """The schema of each set: the names its source lists, or those that its rows have."""
    listed: dict[str, dict[str, bool]] = defaultdict(dict)
    for row, own in zip(case.rows, case.sets, strict=True):
        for name in row.get("names", ()):
            listed[own].setdefault(name, False)
        for name, value in row["fields"].items():
            listed[own][name] = listed[own].get(name, False) or isinstance(value, list)
    return {own: field_schema(names) for own, names in listed.items()}
