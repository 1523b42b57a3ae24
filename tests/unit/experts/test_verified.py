"""Experts' folders that need not be read again by a later process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from t2agent.errors import ExpertFormatError
from t2agent.experts import folder as expert_folder
from t2agent.experts import verified
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, VECTORS_FILE
from t2agent.experts.registry import Registry

SHAPES = {"a.q": 5, "a.up": 3}
NAMES = [f"e{k}" for k in range(4)]


def opened() -> Registry:
    """As another process would have it."""
    return Registry("org/base", fingerprint="f1", shapes=SHAPES)


@pytest.fixture
def index(t2agent_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verified, "_FEW", 1)
    (t2agent_home / "cache").unlink()  # the one that all tests share
    return t2agent_home / "cache" / "verified_experts.json"


@pytest.fixture
def folder(t2agent_home: Path, index: Path) -> Path:
    parent = t2agent_home / "experts" / "org--base"
    for value, name in enumerate(NAMES):
        z = {module: torch.full((n,), float(value)) for module, n in SHAPES.items()}
        Expert(ExpertCard(name), z).save(parent / name)
    time.sleep(0.06)  # until their times tell whether they change
    return parent


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose vectors are read."""
    names: list[str] = []
    read = expert_folder.read

    def noted(folder: Path) -> Any:
        names.append(Path(folder).name)
        return read(folder)

    monkeypatch.setattr(expert_folder, "read", noted)
    return names


def damage(vectors: Path) -> None:
    """Change a byte, and put the time of the last change back."""
    status = vectors.stat()
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    os.utime(vectors, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_vectors_are_read_once_and_then_when_they_are_needed(
    folder: Path, whole: list[str]
) -> None:
    first = opened()
    assert first.names() == NAMES
    assert whole == NAMES
    whole.clear()
    later = opened()
    assert later.names() == NAMES
    assert (later.fingerprint, later.cards()) == (first.fingerprint, first.cards())
    assert whole == []
    assert later.get("e2").z["a.q"].tolist() == [2.0] * 5
    assert whole == ["e2"]


def test_only_what_changed_is_read_again(folder: Path, whole: list[str]) -> None:
    opened().names()
    whole.clear()
    damage(folder / "e1" / VECTORS_FILE)
    Expert(ExpertCard("new"), {"a.q": torch.ones(5)}).save(folder / "new")
    with pytest.warns(UserWarning, match="e1"):
        assert opened().names() == ["e0", "e2", "e3", "new"]
    assert whole == ["e1", "new"]


def test_damage_that_no_time_tells_of_is_found_when_the_expert_is_loaded(
    folder: Path, index: Path
) -> None:
    opened().names()
    damage(folder / "e1" / VECTORS_FILE)
    plain = json.loads(index.read_text())
    status = (folder / "e1" / VECTORS_FILE).stat()
    plain["folders"][str(folder / "e1")][1] = [
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ]
    index.write_text(json.dumps(plain))
    registry = opened()
    assert registry.names() == NAMES
    with (
        pytest.warns(UserWarning, match="e1"),
        pytest.raises(ExpertFormatError, match="is not the file that"),
    ):
        registry.get("e1")
    assert registry.names() == ["e0", "e2", "e3"]
    assert list(registry.problems) == [str(folder / "e1")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"version": 1}',
        b'{"version": 99, "folders": {}}',
        b'{"version": 1, "folders": []}',
        b'{"version": 1, "folders": {"x": 3}}',
        b'{"version": 1, "folders": {"x": [["a"]]}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_index_is_made_anew(
    folder: Path, index: Path, whole: list[str], content: bytes
) -> None:
    index.parent.mkdir(exist_ok=True)
    index.write_bytes(content)
    assert opened().names() == NAMES
    assert whole == NAMES
    whole.clear()
    assert opened().names() == NAMES
    assert whole == []


def test_where_nothing_can_be_written_all_is_read(
    folder: Path, index: Path, whole: list[str]
) -> None:
    index.parent.write_text("a file, where the folder should be")
    for _ in range(2):
        whole.clear()
        assert opened().names() == NAMES
        assert whole == NAMES


def test_what_changed_just_now_is_not_relied_on(t2agent_home: Path, index: Path) -> None:
    parent = t2agent_home / "experts" / "org--base"
    Expert(ExpertCard("e"), {"a.q": torch.ones(5)}).save(parent / "e")
    future = time.time() + 60
    os.utime(parent / "e" / CONFIG_FILE, (future, future))
    opened().names()
    assert not index.exists()


def test_other_bases_folders_stay_known(t2agent_home: Path, folder: Path, whole: list[str]) -> None:
    Expert(ExpertCard("o"), {"a.q": torch.ones(5)}).save(t2agent_home / "experts/other/o")
    time.sleep(0.06)
    for _ in range(2):
        whole.clear()
        opened().names()
        Registry("other", fingerprint="f2", shapes=SHAPES).names()
    assert whole == []
