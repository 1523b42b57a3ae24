from __future__ import annotations

import gzip
import json

import pytest

from t2agent.bench.datasets import read_json, read_jsonl
from t2agent.errors import ConfigError


@pytest.mark.parametrize("name", ["data.json", "data.json.gz"])
def test_json_packed_or_not(tmp_path, name):
    content = json.dumps({"train": [["über", "a"]]}).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    assert read_json(tmp_path / name) == {"train": [["über", "a"]]}


def test_a_missing_file_tells_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.json.*does not ship.*--set"):
        read_json(tmp_path / "nothing.json")


CUT = gzip.compress(b"{}" * 99, mtime=0)[:-9]


@pytest.mark.parametrize("content", [b"no gzip", CUT], ids=["no gzip", "cut"])
def test_a_damaged_archive(tmp_path, content):
    (tmp_path / "data.json.gz").write_bytes(content)

    with pytest.raises(ConfigError, match="cannot be read"):
        read_json(tmp_path / "data.json.gz")


def test_no_json(tmp_path):
    (tmp_path / "data.json").write_text("{")

    with pytest.raises(ConfigError, match="is no JSON"):
        read_json(tmp_path / "data.json")


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "line 2 is no JSON"), ("[1]", "object with a, b"), ('{"a": 1}', "object with a, b")],
)
def test_a_line_of_another_form(tmp_path, line, says):
    good = '{"a": "x", "b": "y", "c": "z"}\n'
    path = tmp_path / "data.jsonl"
    path.write_text(good)
    assert read_jsonl(path, "a", "b") == [{"a": "x", "b": "y", "c": "z"}]
    path.write_text(good + line)

    with pytest.raises(ConfigError, match=says):
        read_jsonl(path, "a", "b")


def test_a_string_may_hold_any_separator_of_lines(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": "x\u2028y\u0085z"}\n{"a": "b"}\r\n', newline="")

    assert [row["a"] for row in read_jsonl(path, "a")] == ["x\u2028y\u0085z", "b"]
