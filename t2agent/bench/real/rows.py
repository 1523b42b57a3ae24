"""Files of real data: which kind their rows are of, and what is asked for each.

A file of JSON lines (``.jsonl``, ``.jsonl.gz``) holds rows of one kind, which shows in their
fields; files whose names begin alike (labels_dev, labels_news) are one case. Training files
(``_train`` in the name) are left out.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
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
    "calls": Kind(frozenset({"prompt", "tools", "calls"}), "tools", 320),
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
    file, and in that its source or category. A row of an extraction has its ``schema`` as well."""

    name: str
    kind: str
    rows: tuple[Row, ...]
    sets: tuple[str, ...]

    def drawn(self, most: int, seed: int = 0) -> Case:
        """So many of the rows, in their order, the same number of each set while they last; all,
        where there are no more."""
        if most >= len(self.rows):
            return self
        found: dict[str, list[int]] = defaultdict(list)
        for place, where in enumerate(self.sets):
            found[where].append(place)
        left = [random.Random(f"{seed} {where}").sample(ps, len(ps)) for where, ps in found.items()]
        # Each set's first, each set's second and so on.
        turns = [place for turn in zip_longest(*left) for place in turn if place is not None]
        return self.at(sorted(turns[:most]))

    def at(self, places: Iterable[int]) -> Case:
        """The rows at these places."""
        kept = list(places)
        return replace(
            self,
            rows=tuple(self.rows[place] for place in kept),
            sets=tuple(self.sets[place] for place in kept),
        )


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


def read_cases(folder: Path | str, chosen: Sequence[str] = ()) -> list[Case]:
    """The cases of a folder's files.

    Args:
        folder: where the files are; of other files nothing is read but extract_fields.json,
            {source: [names of fields]}.
        chosen: names of cases; all without.

    Raises:
        ConfigError: there is no such file, a chosen case is not there, or a row is of no known kind
            or of another one than its case's.
    """
    by_case: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(Path(folder).glob("*")):
        if path.name.endswith(_ENDINGS) and "_train" not in path.name:
            by_case[_case_of(path)].append(path)
    if not by_case:
        raise ConfigError(
            f"{folder} holds no file of rows (.jsonl or .jsonl.gz, without _train in the name); "
            "give the folder that holds them, as --data or --held-out"
        )
    if missing := set(chosen) - by_case.keys():
        raise ConfigError(
            f"{folder} has no rows of {', '.join(sorted(missing))}; there are "
            f"{', '.join(sorted(by_case))}"
        )
    known = [name for name in _NAMES if name in by_case]
    names = dict.fromkeys((*known, *sorted(by_case)))
    return [_read(name, by_case[name]) for name in names if not chosen or name in chosen]


def asked(case: Case, tool_choice: str = "any") -> list[Asked]:
    """What is asked for each row of a case.

    tool_choice: where the user asks for calls; rows of BFCL whose point is whether there is a call
        at all are asked with "auto".
    """
    return [_asked(case.kind, row, tool_choice) for row in case.rows]


def _asked(kind: str, row: Row, choice: str) -> Asked:
    most = KINDS[kind].max_tokens
    if kind == "answers":
        return Asked(tuple(row["messages"]), most, tuple(row["tools"]))
    if kind in ("bfcl", "calls"):
        messages = row.get("messages") or user(row["prompt"])
        choice = "auto" if "relevance" in row.get("category", "") else choice
        return Asked(tuple(messages), most, tuple(row["tools"]), choice)
    if kind == "labels":
        return Asked(user(label_request(row["text"], row["labels"])), most)
    if kind == "extract":
        return Asked(user(row["text"]), most, schema=row["schema"])
    return Asked(user(row["prompt"]), most)


def user(text: str) -> tuple[Mapping[str, Any], ...]:
    """One message of a user."""
    return ({"role": "user", "content": text},)


def _case_of(path: Path) -> str:
    stem = path.name.split(".")[0]
    known = next((name for name in _NAMES if stem.startswith(name)), None)
    return known or stem.removesuffix("_dev").removesuffix("_test")


def _read(name: str, files: Sequence[Path]) -> Case:
    kind = ""
    rows: list[dict[str, Any]] = []
    sets: list[str] = []
    for path in files:
        found = read_jsonl(path)
        for number, row in enumerate(found, 1):
            own = next((key for key, one in KINDS.items() if row.keys() >= one.fields), "")
            if not own or own != (kind or own):
                said = f"of kind {own!r}, others of {name} of {kind!r}" if own else "of no kind"
                needed = "; ".join(f"{k}: {', '.join(sorted(v.fields))}" for k, v in KINDS.items())
                raise ConfigError(
                    f"{path}, row {number} with the fields {', '.join(row)} is {said}; "
                    f"needed are the fields of one kind ({needed})"
                )
            kind = own
            source = str(row.get("category") or row.get("source") or "")
            sets.append(f"{path.name.split('.')[0]} {source}".strip())
        rows += _with_schemas(found, path) if kind == "extract" else found
    return Case(name, kind, tuple(rows), tuple(sets))


def _with_schemas(rows: Sequence[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows, each with the schema of its source: of the names that extract_fields.json lists for
    it, and those that its rows have."""
    beside = path.parent / "extract_fields.json"
    listed = read_json(beside) if beside.exists() else {}
    fields: dict[str, dict[str, bool]] = {}
    for row in rows:
        source = row.get("source", "")
        own = fields.setdefault(source, dict.fromkeys(listed.get(source, ()), False))
        for key, value in row["fields"].items():
            own[key] = own.get(key, False) or isinstance(value, list)
    return [row | {"schema": field_schema(fields[row.get("source", "")])} for row in rows]
