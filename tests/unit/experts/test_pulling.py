"""Experts pulled into a registry, and the versions pinned in its lock file."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from t2agent.errors import (
    ConfigError,
    ExpertExistsError,
    ExpertFormatError,
    ExpertMismatchError,
    ExpertNotFoundError,
    HubError,
)
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, VECTORS_FILE
from t2agent.experts.pins import LOCK_FILE, PIN_FILE
from t2agent.experts.registry import Registry
from tests.folder_hub import FolderHub

BASE = "org/base"
REPO = "someone/math"


def expert(value: float, name: str = "math", base: str = BASE) -> Expert:
    card = ExpertCard(name, base=base, base_fingerprint="f00")
    return Expert(card, {"a.q": torch.full((5,), value)})


def value_of(found: object) -> float:
    assert isinstance(found, Expert)
    return found.z["a.q"][0].item()


@pytest.fixture
def folder(t2agent_home: Path) -> Path:
    return t2agent_home / "experts" / "org--base"


@pytest.fixture
def registry() -> Registry:
    return Registry(BASE, fingerprint="f00", shapes={"a.q": 5})


def lock(folder: Path) -> dict[str, Any]:
    return json.loads((folder / LOCK_FILE).read_text())  # type: ignore[no-any-return]


def test_a_pulled_expert_is_registered_and_pinned(
    hub: FolderHub, registry: Registry, folder: Path
) -> None:
    pushed = expert(1.0).push_to_hub(REPO)
    assert value_of(registry.pull(REPO)) == 1.0
    assert registry.source("math") == str(folder / "math")
    files = hub.files(REPO)
    for name in (VECTORS_FILE, CONFIG_FILE, "README.md"):
        assert (folder / "math" / name).read_bytes() == files[name]
    pin = registry.pins()["math"]
    assert (pin.repo, pin.commit, pin.revision) == (REPO, pushed.commit, None)
    assert registry.pin("math") == pin
    assert lock(folder)["base"] == BASE
    assert Registry(BASE).names() == ["math"]  # another process finds it


def test_a_pin_holds_until_an_update(hub: FolderHub, registry: Registry) -> None:
    first = expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    expert(2.0).push_to_hub(REPO)
    hub.requests.clear()
    assert value_of(registry.pull(REPO)) == 1.0
    assert hub.requests == []
    assert value_of(registry.pull(REPO, update=True)) == 2.0
    assert value_of(registry.pull(str(first))) == 1.0
    assert value_of(registry.pull(REPO)) == 1.0
    assert registry.pins()["math"].revision == first.commit
    # There is nothing newer than a commit: an update leads back to the main branch.
    assert value_of(registry.pull(REPO, update=True)) == 2.0


def test_an_update_follows_the_branch(hub: FolderHub, registry: Registry) -> None:
    expert(1.0).push_to_hub(REPO)
    expert(2.0).push_to_hub(f"{REPO}@next")
    registry.pull(REPO, revision="next")
    expert(3.0).push_to_hub(f"{REPO}@next")
    assert value_of(registry.pull(REPO, update=True)) == 3.0
    assert registry.pins()["math"].revision == "next"


def test_several_of_one_repository_and_other_names(hub: FolderHub, registry: Registry) -> None:
    for k, name in enumerate(("one", "two")):
        expert(float(k), name).push_to_hub(REPO, subfolder=name)
        registry.pull(REPO, subfolder=name)
    registry.pull(REPO, subfolder="two", name="zwei")
    assert registry.names() == ["one", "two", "zwei"]
    assert registry.get("zwei").card.name == "zwei"
    expert(5.0, "two").push_to_hub(REPO, subfolder="two")
    assert value_of(registry.pull(REPO, subfolder="two", name="zwei", update=True)) == 5.0
    assert value_of(registry.get("two")) == 1.0


def test_another_machine_gets_the_very_same(
    hub: FolderHub, registry: Registry, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    registry.pull(REPO, name="again")
    expert(2.0).push_to_hub(REPO)
    there = tmp_path / "home" / "experts" / "org--base"
    there.mkdir(parents=True)
    shutil.copy(folder / LOCK_FILE, there)
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    found = Registry(BASE).restore()
    assert {name: value_of(one) for name, one in found.items()} == {"math": 1.0, "again": 1.0}
    for name in ("math", "again"):
        for file in (VECTORS_FILE, CONFIG_FILE, PIN_FILE):
            assert (there / name / file).read_bytes() == (folder / name / file).read_bytes()
    hub.requests.clear()
    Registry(BASE).restore()
    assert hub.requests == []  # all is there


def test_files_that_are_not_those_pinned_are_refused(
    hub: FolderHub, registry: Registry, folder: Path
) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    plain = lock(folder)
    for key in ("vectors", "config"):
        changed = {**plain["experts"]["math"], key: "0" * 64}
        (folder / LOCK_FILE).write_text(json.dumps({**plain, "experts": {"math": changed}}))
        shutil.rmtree(folder / "math", ignore_errors=True)
        with pytest.raises(ExpertFormatError, match="not hold the files that were pinned"):
            registry.pull(REPO)
        assert isinstance(registry.restore()["math"], ExpertFormatError)
        assert "math" not in registry


def test_a_pulled_folder_that_was_changed_is_a_problem(
    hub: FolderHub, registry: Registry, folder: Path
) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    expert(9.0).save(folder.parent / "forged")
    for name in (VECTORS_FILE, CONFIG_FILE):  # consistent in itself
        shutil.copy(folder.parent / "forged" / name, folder / "math" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = Registry(BASE)
        [problem] = again.problems.values()
        assert "not what was pulled" in str(problem)
        assert REPO in str(problem)
        assert "math" not in again
        assert value_of(again.pull(REPO)) == 1.0  # mended, and no other expert is replaced
    (folder / "math" / PIN_FILE).write_text("{")
    with pytest.raises(ExpertFormatError, match="Pull it again"):
        Expert.load(folder / "math")


def test_an_expert_of_ones_own_has_no_pin(hub: FolderHub, registry: Registry, folder: Path) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    registry.register(expert(7.0), replace=True, persist=True)
    assert registry.pins() == {}
    assert registry.pin("math") is None
    with pytest.raises(ExpertExistsError):
        registry.pull(REPO)
    assert value_of(registry.get("math")) == 7.0
    registry.pull(REPO, replace=True)
    expert(8.0).save(folder / "math")  # behind the registry's back
    assert value_of(registry.get("math")) == 8.0
    assert isinstance(registry.restore()["math"], ExpertExistsError)
    assert value_of(registry.restore(replace=True)["math"]) == 1.0


def test_what_is_unregistered_is_pinned_no_more(
    hub: FolderHub, registry: Registry, folder: Path
) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    registry.pull(REPO, name="other")
    registry.unregister("math", persist=True)
    assert list(registry.pins()) == ["other"]
    shutil.rmtree(folder / "other")
    registry.unregister("other", persist=True)
    assert registry.pins() == {}
    with pytest.raises(ExpertNotFoundError):
        registry.unregister("other", persist=True)


def test_what_does_not_fit_changes_nothing(
    hub: FolderHub, registry: Registry, folder: Path
) -> None:
    registry.register(expert(4.0), persist=True)
    expert(1.0).push_to_hub(REPO)
    expert(1.0, "other", base="org/other").push_to_hub("someone/other")
    hub.commit("someone/other", "main", {CONFIG_FILE: b"{}"})
    Expert(ExpertCard("long", base=BASE), {"a.q": torch.ones(6)}).push_to_hub("someone/long")
    before = sorted(path.name for path in folder.iterdir())
    for repo, error in (
        (REPO, ExpertExistsError),
        ("someone/other", ExpertFormatError),
        ("someone/long", ExpertMismatchError),
        ("someone/nothing", ExpertNotFoundError),
    ):
        with pytest.raises(error):
            registry.pull(repo)
    with pytest.raises(ConfigError, match="cannot name an expert"):
        registry.pull(REPO, name="../up")
    assert sorted(path.name for path in folder.iterdir()) == before
    assert value_of(registry.get("math")) == 4.0


def test_an_installation_that_fails_leaves_the_lock_file(
    hub: FolderHub, registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    before = lock(folder)
    expert(2.0).push_to_hub(REPO)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("t2agent.experts.folder.write", full)
    with pytest.raises(OSError, match="no space"):
        registry.pull(REPO, update=True)
    assert lock(folder) == before


def test_offline_a_pinned_expert_is_there(
    hub: FolderHub, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert(1.0).push_to_hub(REPO)
    registry.pull(REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert value_of(registry.pull(REPO)) == 1.0
    assert value_of(registry.restore()["math"]) == 1.0
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        registry.pull("someone/else")
