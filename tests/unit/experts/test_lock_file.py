from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.pins import LOCK_FILE, LockFile, Pin
from t2agent.experts.registry import Registry

BASE = "org/base"
PIN = Pin("a/b", "a" * 40, "0" * 64, "1" * 64)


@pytest.fixture
def folder(t2agent_home: Path) -> Path:
    return t2agent_home / "experts" / "org--base"


def test_pins_come_and_go(folder: Path) -> None:
    held = LockFile(folder, "/home/me/models/tiny")
    assert held.pins() == {}
    with held.pinning("x", None):
        pass
    assert not held.path.exists()  # no file is made to say that nothing is pinned
    with held.pinning("x", PIN):
        pass
    assert LockFile(folder, "other").pins() == {"x": PIN}
    assert LockFile(folder, "other").base() == "tiny"
    with held.pinning("x", None):
        pass
    assert held.pins() == {}


def test_what_fails_pins_nothing(folder: Path) -> None:
    held = LockFile(folder, BASE)

    def fail() -> None:
        with held.pinning("x", PIN):
            assert held.pins() == {"x": PIN}  # written before the folder is changed
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert held.pins() == {}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"version": 2}', '{"version": 1, "base": "b"}', "[" * 100_000,
        '{"version": 1, "base": "b", "experts": {"../x": {}}}',
        '{"version": 1, "base": "b", "experts": {"x": {"repo": "a/b"}}}',
        '{"version": 1, "base": "b", "experts": {"x": 3}}',
    ],
)  # fmt: skip
def test_a_damaged_lock_file_is_named_and_harms_no_expert(folder: Path, text: str) -> None:
    registry = Registry(BASE)
    expert = Expert(ExpertCard("math", base=BASE), {"m": torch.ones(3)})
    registry.register(expert, persist=True)
    (folder / LOCK_FILE).write_text(text)
    with pytest.raises(ConfigError, match=LOCK_FILE):
        registry.pins()
    assert Registry(BASE).names() == ["math"]


def _pin_some(folder: str, first: int) -> None:
    held = LockFile(Path(folder), BASE)
    for k in range(first, first + 10):
        with held.pinning(f"x{k}", PIN):
            pass


def test_processes_at_once_lose_no_pin(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_pin_some, args=(str(folder), 10 * k)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(LockFile(folder, BASE).pins()) == 30
