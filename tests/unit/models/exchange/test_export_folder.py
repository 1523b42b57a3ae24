"""Where an export may be written, and what vLLM says to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2agent.errors import ConfigError
from t2agent.models.exchange.records import (
    RECORD_FILE,
    check_free,
    export_folder,
    vllm_support,
    write_record,
)


def export(target: Path, *names: str) -> None:
    with export_folder(target) as folder:
        for name in names:
            (folder / name).write_text(name)
        write_record(folder, "lora", {"rank": 3})


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_new_an_empty_and_an_earlier_folder(tmp_path: Path) -> None:
    export(tmp_path / "new" / "deep", "a")
    (tmp_path / "empty").mkdir()
    export(tmp_path / "empty", "a", "b")
    export(tmp_path / "empty", "c")
    assert names(tmp_path / "empty") == {"c", RECORD_FILE}
    record = json.loads((tmp_path / "empty" / RECORD_FILE).read_text())
    assert record["kind"] == "lora"
    assert record["rank"] == 3
    assert names(tmp_path) == {"new", "empty"}


def test_what_would_be_lost_is_named(tmp_path: Path) -> None:
    export(tmp_path / "out", "a")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        export(tmp_path / "out", "b")
    assert names(tmp_path / "out") == {"a", "thesis.tex", RECORD_FILE}
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        check_free(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": "abc"}', b'{"files": [1]}'])
def test_a_record_that_is_none_frees_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_bytes(content)
    (tmp_path / "thing").write_text("")
    with pytest.raises(ConfigError, match="holds other things"):
        check_free(tmp_path)


@pytest.mark.parametrize("folder", ["", "a\0b", None, 3])
def test_no_path(folder: Any) -> None:
    with pytest.raises(ConfigError, match="no path"):
        check_free(folder)


def test_a_failure_keeps_the_earlier_export(tmp_path: Path) -> None:
    export(tmp_path / "out", "a")
    with pytest.raises(RuntimeError), export_folder(tmp_path / "out"):
        raise RuntimeError
    assert names(tmp_path / "out") == {"a", RECORD_FILE}


@pytest.mark.parametrize(
    ("rank", "limit"), [(1, 8), (8, 8), (9, 16), (257, 320), (321, 512), (512, 512), (513, None)]
)
def test_vllm_takes_few_ranks(rank: int, limit: int | None) -> None:
    support = vllm_support(rank, vision=(), transposed=False)
    assert support.max_lora_rank == limit
    assert support.ok == (limit is not None)
    if limit:
        assert f"--max-lora-rank {limit}" in str(support)


def test_vllm_takes_no_vision_layers_and_no_gpt2() -> None:
    support = vllm_support(600, vision={"tower.b", "tower.a"}, transposed=True)
    assert len(support.problems) == 3
    assert "tower.a" in str(support)
    assert "GPT-2" in str(support)
    assert "600" in str(support)
