from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from t2agent import files
from t2agent.errors import (
    ConfigError,
    ExpertExistsError,
    ExpertFormatError,
    ExpertMismatchError,
    ExpertNotFoundError,
)
from t2agent.experts import discovery as catalogue
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, VECTORS_FILE
from t2agent.experts.registry import Registry, register_expert

BASE = "org/base"
SHAPES = {"a.q": 5, "a.up": 3}


def make(name: str = "math", value: float = 1.0, **card: object) -> Expert:
    z = {module: torch.full((length,), float(value)) for module, length in SHAPES.items()}
    return Expert(ExpertCard(name, **card), z)  # type: ignore[arg-type]


def value_of(expert: Expert) -> float:
    (value,) = {x for vector in expert.z.values() for x in vector.tolist()}
    return float(value)


@pytest.fixture
def registry() -> Registry:
    return Registry(BASE, fingerprint="f1", shapes=SHAPES)


@pytest.fixture
def user_folder(t2agent_home: Path) -> Path:
    return t2agent_home / "experts" / "org--base"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the experts that ship for BASE."""
    monkeypatch.setattr(catalogue, "bundled", lambda kind: tmp_path / kind)
    return tmp_path / "experts" / "org--base"


# -- registering in code ---------------------------------------------------------------------


def test_a_registered_expert_is_the_very_one(registry: Registry) -> None:
    expert = make()
    assert registry.register(expert) is expert
    assert registry.get("math") is expert
    assert registry.source("math") == "code"
    assert "math" in registry
    assert "code" not in registry
    assert len(registry) == 1
    assert list(registry) == ["math"]
    assert repr(registry) == "Registry('org/base', experts=['math'])"
    assert "math" not in Registry(BASE)


def test_a_folder_can_be_registered(registry: Registry, tmp_path: Path) -> None:
    make().save(tmp_path / "x")
    assert registry.register(str(tmp_path / "x")).name == "math"
    (tmp_path / "x" / VECTORS_FILE).write_bytes(b"damaged later")
    assert value_of(registry.get("math")) == 1.0
    with pytest.raises(ExpertFormatError):
        registry.register(tmp_path / "x", replace=True)


def test_names_by_modality(registry: Registry) -> None:
    for name, modality in (("read", "image"), ("math", "text"), ("chart", "image")):
        registry.register(make(name, modality=modality))
    assert registry.names() == ["chart", "math", "read"]
    assert registry.names("image") == ["chart", "read"]
    assert registry.names(modality="text") == ["math"]
    assert list(registry.cards("text")) == ["math"]
    assert registry.card("math").modality == "text"
    with pytest.raises(ConfigError, match="'sound'"):
        registry.names("sound")  # type: ignore[arg-type]


def test_a_taken_name_is_refused_unless_replaced(registry: Registry) -> None:
    registry.register(make())
    with pytest.raises(ExpertExistsError, match="replace=True"):
        registry.register(make(value=2))
    assert value_of(registry.get("math")) == 1
    registry.register(make(value=2), replace=True)
    assert value_of(registry.get("math")) == 2


def test_an_unknown_name_is_refused_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(ExpertNotFoundError, match="none; train one"):
        registry.get("math")
    registry.register(make("math"))
    registry.register(make("code"))
    with pytest.raises(ExpertNotFoundError) as caught:
        registry.get("maths")
    for text in ("'maths'", "'org/base'", "Did you mean 'math'?", "Registered: code, math."):
        assert text in str(caught.value)
    for wrong in (registry.card, registry.source, registry.unregister):
        with pytest.raises(ExpertNotFoundError):
            wrong("maths")
    with pytest.raises(ConfigError, match="cannot name"):
        registry.unregister("../../x", persist=True)


def test_an_expert_for_another_base_is_refused_with_both_fingerprints(registry: Registry) -> None:
    with pytest.raises(ExpertMismatchError, match=r"fingerprint f2.*fingerprint f1"):
        registry.register(make(base=BASE, base_fingerprint="f2"))
    assert len(registry) == 0
    registry.register(make(base=BASE, base_fingerprint=""))


def test_an_expert_of_other_shapes_is_refused(registry: Registry, user_folder: Path) -> None:
    expert = Expert(ExpertCard("x"), {"a.q": torch.ones(4)})
    for persist in (False, True):
        with pytest.raises(ExpertMismatchError, match=r"4 numbers for 'a.q'.*needs 5"):
            registry.register(expert, persist=persist)
    assert not user_folder.exists()
    with pytest.raises(ExpertMismatchError):
        registry.check(expert)
    registry.check(make())


def test_an_expert_that_diverged_is_refused(registry: Registry) -> None:
    with pytest.raises(ExpertFormatError, match="NaN"):
        registry.register(make(value=float("nan")))


# -- the user's folder -----------------------------------------------------------------------


def test_a_persisted_expert_is_there_for_later_processes(
    registry: Registry, user_folder: Path
) -> None:
    registry.register(make(value=3, base=BASE, base_fingerprint="f1"), persist=True)
    assert registry.source("math") == str(user_folder / "math")
    assert registry.get("math") is registry.get("math")
    for other in (Registry(BASE), Registry("./somewhere/org--base"), Registry(BASE, shapes=SHAPES)):
        assert value_of(other.get("math")) == 3
    assert "math" not in Registry("org/base2")


def test_what_lies_in_the_users_folder_is_found_at_once(
    registry: Registry, user_folder: Path
) -> None:
    for k in range(5):
        make(f"e{k}").save(user_folder / f"e{k}")
        assert len(registry) == k + 1
    before = registry.get("e0")
    make("e0", value=9).save(user_folder / "e0")
    assert value_of(registry.get("e0")) == 9
    assert value_of(before) == 1


def test_a_file_altered_in_place_is_noticed(registry: Registry, user_folder: Path) -> None:
    make().save(user_folder / "math")
    assert registry.names() == ["math"]
    time.sleep(0.1)  # the folder's own time stamp is now older than the clock's grain
    assert registry.names() == ["math"]
    path = user_folder / "math" / CONFIG_FILE
    path.write_text(path.read_text().replace('"description": ""', '"description": "new"'))
    deadline = time.monotonic() + 5
    while registry.card("math").description != "new":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert registry.get("math").card.description == "new"


def test_the_cards_name_counts_and_the_folder_of_that_name_has_it(
    registry: Registry, user_folder: Path
) -> None:
    make("math", value=1).save(user_folder / "a-copy")
    assert value_of(registry.get("math")) == 1
    make("math", value=2).save(user_folder / "math")
    assert value_of(registry.get("math")) == 2


def test_hidden_folders_and_files_are_no_experts(registry: Registry, user_folder: Path) -> None:
    make().save(user_folder / ".math.ab12.new")
    (user_folder / "notes.txt").touch()
    assert len(registry) == 0
    assert registry.problems == {}


def test_a_folder_set_aside_by_a_killed_process_is_found(
    registry: Registry, user_folder: Path
) -> None:
    make().save(user_folder / "math")
    (user_folder / "math").rename(user_folder / ".math.old")
    assert registry.names() == ["math"]


@pytest.mark.parametrize("damage", ["truncated", "no config", "other base", "other shape"])
def test_an_unusable_folder_costs_only_itself(
    registry: Registry, user_folder: Path, damage: str
) -> None:
    make("code").save(user_folder / "code")
    bad = user_folder / "math"
    make("math", base_fingerprint="f2" if damage == "other base" else "f1").save(bad)
    if damage == "truncated":
        os.truncate(bad / VECTORS_FILE, 20)
    elif damage == "no config":
        (bad / CONFIG_FILE).unlink()
    elif damage == "other shape":
        Expert(ExpertCard("math"), {"z": torch.ones(1)}).save(bad)
    error = ExpertMismatchError if damage.startswith("other") else ExpertFormatError
    with pytest.warns(UserWarning, match="an expert was left out") as caught:
        assert registry.names() == ["code"]
    assert sum("an expert was left out" in str(one.message) for one in caught) == 1
    assert list(registry.problems) == [str(bad)]
    assert isinstance(registry.problems[str(bad)], error)
    # Who asks for it by name is told why.
    with pytest.raises(error):
        registry.get("math")
    # It is no obstacle to a new one, but not overwritten unasked either.
    with pytest.raises(ExpertExistsError, match=r"holds expert 'math'"):
        registry.register(make("math"), persist=True)
    if damage != "no config":
        registry.register(make("math"), persist=True, replace=True)
        assert registry.problems == {}


def test_a_folder_with_an_expert_of_another_name_is_not_overwritten(
    registry: Registry, user_folder: Path
) -> None:
    make("algebra").save(user_folder / "math")
    for replace in (False, True):
        with pytest.raises(ExpertExistsError, match="holds expert 'algebra'"):
            registry.register(make("math"), persist=True, replace=replace)
    assert registry.names() == ["algebra"]


def test_persisting_takes_the_place_of_what_was_in_memory(
    registry: Registry, user_folder: Path
) -> None:
    registry.register(make(value=1))
    registry.register(make(value=2), persist=True, replace=True)
    make(value=3).save(user_folder / "math")  # as another process would
    assert value_of(registry.get("math")) == 3


# -- unregistering ---------------------------------------------------------------------------


def test_unregistering_what_is_in_memory(registry: Registry) -> None:
    registry.register(make())
    registry.unregister("math")
    assert "math" not in registry
    registry.register(make(value=2))
    assert value_of(registry.get("math")) == 2


def test_unregistering_keeps_the_files_unless_asked(registry: Registry, user_folder: Path) -> None:
    registry.register(make(), persist=True)
    registry.unregister("math")
    assert "math" not in registry
    assert "math" in Registry(BASE)
    # Written anew, it is a new expert.
    make(value=2).save(user_folder / "math")
    assert value_of(registry.get("math")) == 2
    registry.unregister("math", persist=True)
    assert "math" not in registry
    assert "math" not in Registry(BASE)
    assert list(user_folder.iterdir()) == []


def test_a_damaged_folder_can_be_removed(registry: Registry, user_folder: Path) -> None:
    (user_folder / "math").mkdir(parents=True)
    with pytest.warns(UserWarning, match="left out"):
        assert registry.problems
    registry.unregister("math", persist=True)
    assert registry.problems == {}
    assert list(user_folder.iterdir()) == []


def test_a_shipped_expert_can_be_hidden_but_not_deleted(registry: Registry, shipped: Path) -> None:
    make().save(shipped / "math")
    with pytest.raises(ConfigError, match="cannot be deleted"):
        registry.unregister("math", persist=True)
    assert "math" in registry
    registry.unregister("math")
    assert "math" not in registry
    assert (shipped / "math").is_dir()


# -- shipped experts, and who comes first ----------------------------------------------------


def test_who_comes_first(registry: Registry, shipped: Path, user_folder: Path) -> None:
    make(value=1).save(shipped / "math")
    assert value_of(registry.get("math")) == 1
    make(value=2).save(user_folder / "math")
    assert value_of(registry.get("math")) == 2
    registry.register(make(value=3), replace=True)
    assert value_of(registry.get("math")) == 3
    registry.unregister("math")
    assert "math" not in registry


def test_the_embedded_base_model_is_no_expert(registry: Registry, shipped: Path) -> None:
    make().save(shipped / "math")
    (shipped / "base").mkdir()
    (shipped / "base" / "config.json").write_text("{}")
    assert registry.names() == ["math"]
    assert registry.problems == {}


def test_a_base_that_is_not_loaded_is_known_by_its_shipped_experts(shipped: Path) -> None:
    make(base=BASE, base_fingerprint="f1").save(shipped / "math")
    with pytest.raises(ExpertMismatchError, match=r"fingerprint f2.*fingerprint f1"):
        register_expert(make("code", base=BASE, base_fingerprint="f2"), model=BASE)
    register_expert(make("code", base=BASE, base_fingerprint="f1"), model=BASE)


# -- register_expert -------------------------------------------------------------------------


def test_register_expert_needs_no_model(tmp_path: Path) -> None:
    make(base=BASE, base_fingerprint="f1").save(tmp_path / "x")
    registered = register_expert(tmp_path / "x", model=BASE)
    assert registered.card.base_fingerprint == "f1"
    assert value_of(Registry(BASE, fingerprint="f1", shapes=SHAPES).get("math")) == 1
    with pytest.raises(ExpertExistsError):
        register_expert(make(), model=BASE)
    register_expert(make(value=2), model=BASE, replace=True)
    assert value_of(Registry(BASE).get("math")) == 2
    with pytest.raises(ExpertMismatchError, match=r"'org/base'.*'org/third'"):
        register_expert(tmp_path / "x", model="org/third")


def test_register_expert_for_this_process(user_folder: Path) -> None:
    base = "org/only-in-this-test"
    before = Registry(base)
    assert len(before) == 0
    expert = make()
    register_expert(expert, model=base, persist=False)
    assert before.get("math") is expert
    assert Registry(base).get("math") is expert
    with pytest.raises(ExpertExistsError):
        register_expert(expert, model=base, persist=False)
    before.unregister("math")
    assert len(Registry(base)) == 0


def test_an_expert_of_this_process_that_does_not_fit_a_model_is_left_out() -> None:
    base = "org/only-in-this-other-test"
    register_expert(make(), model=base, persist=False)
    with pytest.warns(UserWarning, match="left out"):
        assert len(Registry(base, shapes={"a.q": 1})) == 0
    Registry(base).unregister("math")


# -- the fingerprint -------------------------------------------------------------------------


def test_the_fingerprint_tells_all_that_changes_an_answer(
    registry: Registry, user_folder: Path
) -> None:
    seen = [registry.fingerprint]

    def changed() -> bool:
        seen.append(registry.fingerprint)
        return seen[-1] not in seen[:-1]

    registry.register(make(value=1))
    assert changed()
    registry.register(make(value=2), replace=True)
    assert changed()
    registry.register(make(value=2, examples=("2 + 2",)), replace=True)
    assert changed()
    make("code").save(user_folder / "code")
    assert changed()
    make("code", value=7).save(user_folder / "code")
    assert changed()
    registry.unregister("math")
    assert changed()
    registry.unregister("code")
    assert registry.fingerprint == seen[0]


def test_the_same_experts_have_the_same_fingerprint(registry: Registry) -> None:
    registry.register(make("b"))
    registry.register(make("a"))
    in_memory = registry.fingerprint
    registry.unregister("a")
    assert registry.fingerprint != in_memory
    other = Registry(BASE)
    other.register(make("a"), persist=True)
    other.register(make("b"))
    assert other.fingerprint == in_memory


def test_asking_is_cheap(registry: Registry, user_folder: Path) -> None:
    for k in range(10):
        make(f"e{k}").save(user_folder / f"e{k}")
    time.sleep(0.1)
    registry.names()
    spent = []
    for _ in range(50):
        start = time.perf_counter()
        registry.names()
        registry.get("e3")
        _ = registry.fingerprint
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[len(spent) // 2] < 1e-3  # measured: 0.1 ms


# -- threads ---------------------------------------------------------------------------------


def test_many_threads_at_once(registry: Registry, user_folder: Path) -> None:
    make("shared", value=0).save(user_folder / "shared")
    errors: list[BaseException] = []
    over = threading.Event()

    def register(k: int) -> None:
        try:
            for value in range(10):
                registry.register(make(f"e{k}", value=value), replace=True)
                assert value_of(registry.get(f"e{k}")) == value
                registry.unregister(f"e{k}")
        except BaseException as error:
            errors.append(error)

    def read() -> None:
        try:
            while not over.is_set():
                assert value_of(registry.get("shared")) in (0, 1)
                for name in registry:
                    assert name.startswith(("e", "shared"))
        except BaseException as error:
            errors.append(error)

    def rewrite() -> None:
        try:
            for k in range(10):
                make("shared", value=k % 2).save(user_folder / "shared")
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=register, args=(k,)) for k in range(3)]
    writers.append(threading.Thread(target=rewrite))
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert registry.names() == ["shared"]


@pytest.mark.parametrize("name", [None, 3, ["math"], {}])
def test_what_is_no_name_names_nothing(name: Any) -> None:
    registry = Registry("org/base")
    assert name not in registry
    with pytest.raises(ExpertNotFoundError):
        registry.get(name)


def test_an_expert_is_listed_also_between_the_two_renames_of_who_replaces_it(
    t2agent_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry("org/base")
    folder = t2agent_home / "experts" / "org--base" / "math"
    Expert(ExpertCard("math"), {"m": torch.ones(2)}).save(folder)
    assert registry.names() == ["math"]
    away = folder.with_name(".math.aa.new")

    def look(_target: Path) -> None:
        if away.exists():
            away.rename(folder)

    folder.rename(away)
    monkeypatch.setattr(files, "recover_folder", look)
    assert registry.names() == ["math"]


def test_register_expert_takes_the_base_model_of_the_card(tmp_path: Path) -> None:
    make("theirs", base="org/theirs").save(tmp_path / "theirs")
    register_expert(tmp_path / "theirs")
    register_expert(make("here", base="org/theirs"), persist=False)
    found = Registry("org/theirs", fingerprint="f1", shapes=SHAPES)
    assert {"theirs", "here"} <= set(found.names())
    assert "theirs" not in Registry("t2-nano").names()
    with pytest.raises(ConfigError, match="'here' names no base model"):
        register_expert(make("here"))
