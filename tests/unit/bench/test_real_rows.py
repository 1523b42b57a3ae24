"""Files of real data: their cases, and what is asked for their rows."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from t2agent.bench.real.rows import asked, read_cases
from t2agent.errors import ConfigError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
LABELLED = {"text": "t", "label": "a", "labels": ["a", "b"], "source": "one"}
BFCL = {"prompt": "p", "tools": [TOOL], "category": "simple_python", "ground_truth": [{"f": {}}]}
ROWS: dict[str, list[dict[str, Any]]] = {
    "labels_dev.jsonl": [LABELLED, LABELLED],
    "labels_news.jsonl": [{**LABELLED, "source": "other"}] * 4,
    "labels_train.jsonl": [LABELLED] * 9,
    "bfcl_live.jsonl": [BFCL, {**BFCL, "category": "live_irrelevance", "ground_truth": None}],
    "svamp.jsonl": [{"prompt": "2 + 2?", "answer": "4"}],
    "extract_dev.jsonl": [
        {"text": "x", "fields": {"who": ["A"]}, "source": "s"},
        {"text": "y", "fields": {"where": "B"}, "source": "s"},
        {"text": "z", "fields": {"who": "C"}, "source": "other"},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in ROWS.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        with gzip.open(tmp_path / f"{name}.gz", "wt") as file:
            file.write(text)
    (tmp_path / "extract_fields.json").write_text('{"s": ["when", "who"]}')
    (tmp_path / "README.md").write_text("no rows")
    return tmp_path


def test_files_of_one_beginning_are_a_case_and_training_files_none(folder: Path) -> None:
    cases = {case.name: case for case in read_cases(folder)}
    assert {name: (case.kind, len(case.rows)) for name, case in cases.items()} == {
        "bfcl": ("bfcl", 2),
        "labels": ("labels", 6),
        "extract": ("extract", 3),
        "svamp": ("number", 1),
    }
    assert Counter(cases["labels"].sets) == {"labels_dev one": 2, "labels_news other": 4}
    assert [case.name for case in read_cases(folder, ["svamp"])] == ["svamp"]


def test_rows_are_drawn_evenly_from_the_sets(folder: Path) -> None:
    [labels] = read_cases(folder, ["labels"])
    assert Counter(labels.drawn(3).sets) == {"labels_dev one": 2, "labels_news other": 1}
    assert Counter(labels.drawn(5).sets) == {"labels_dev one": 2, "labels_news other": 3}
    assert labels.drawn(6) == labels.drawn(7) == labels


def test_a_schema_has_the_names_of_the_rows_source(folder: Path) -> None:
    [extract] = read_cases(folder, ["extract"])
    schemas = [one.schema["properties"] for one in asked(extract) if one.schema]
    assert schemas[0] == schemas[1]
    assert {name: own["type"] for name, own in schemas[0].items()} == {
        "when": "string",
        "who": "array",
        "where": "string",
    }
    assert {name: own["type"] for name, own in schemas[2].items()} == {"who": "string"}


def test_where_no_call_may_be_right_none_is_forced(folder: Path) -> None:
    [bfcl] = read_cases(folder, ["bfcl"])
    assert [one.tool_choice for one in asked(bfcl, "any")] == ["any", "auto"]


def test_what_cannot_be_measured_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rows of gsm8k; there are bfcl, extract"):
        read_cases(folder, ["gsm8k"])
    (folder / "bfcl_more.jsonl").write_text('{"text": "x", "label": "a", "labels": ["a"]}\n')
    with pytest.raises(ConfigError, match=r"bfcl_more.jsonl, row 1 .* of kind 'labels', others"):
        read_cases(folder)
    (folder / "bfcl_more.jsonl").write_text('{"question": "x"}\n')
    with pytest.raises(ConfigError, match="of no kind; needed"):
        read_cases(folder)
    with pytest.raises(ConfigError, match="no file of rows"):
        read_cases(tmp_path / "missing")
