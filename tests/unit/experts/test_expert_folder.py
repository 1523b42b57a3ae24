from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from t2agent import files
from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts import folder as expert_folder
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, README_FILE, VECTORS_FILE

ROOT = Path(__file__).resolve().parents[3]
CARD = ExpertCard("math", "Sums", examples=("2 + 2",), base="org/base", base_fingerprint="f00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An expert that can be loaded."""
    Expert(CARD, {"a.q": torch.randn(5), "a.up": torch.randn(3)}).save(tmp_path / "math")
    return tmp_path / "math"


def rewrite_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    change(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def with_vectors(folder: Path, data: bytes, lengths: dict[str, int] | None = None) -> None:
    """Put another file of vectors there, with a config that vouches for it."""
    (folder / VECTORS_FILE).write_bytes(data)
    changed: dict[str, object] = {"sha256": hashlib.sha256(data).hexdigest()}
    if lengths is not None:
        changed["lengths"] = lengths
    rewrite_config(folder, lambda config: config.update(changed))


def assert_refused_quickly(folder: Path, match: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpertFormatError, match=match) as caught:
        Expert.load(folder)
    assert time.perf_counter() - start < 1
    assert str(folder) in str(caught.value)


def test_an_expert_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    z = {"a.q": torch.randn(5), "b": torch.randn(6)[::2], "p": torch.nn.Parameter(torch.ones(2))}
    Expert(CARD, z).save(tmp_path / "new" / "math")
    loaded = Expert.load(str(tmp_path / "new" / "math"))
    assert loaded.card == CARD
    assert loaded.z.keys() == z.keys()
    for name, vector in z.items():
        assert torch.equal(loaded.z[name], vector)
        assert not loaded.z[name].requires_grad
    loaded.z["b"].add_(1)  # the memory is its own, and can be written


def test_ones_at_the_end_of_a_vector_take_no_room(tmp_path: Path) -> None:
    z = {"a": torch.ones(900), "b": torch.ones(900), "c": torch.tensor([2.0, 1.0, 3.0])}
    z["b"][1] = 0.5
    Expert(CARD, z).save(tmp_path / "math")
    stored = load_file(tmp_path / "math" / VECTORS_FILE)
    assert {name: vector.tolist() for name, vector in stored.items()} == {
        "a": [1.0],
        "b": [1.0, 0.5],
        "c": [2.0, 1.0, 3.0],
    }
    loaded = Expert.load(tmp_path / "math").z
    assert all(torch.equal(loaded[name], vector) for name, vector in z.items())


def test_the_folder_is_in_the_hubs_manner(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        README_FILE,
        VECTORS_FILE,
        CONFIG_FILE,
    ]
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert config["format_version"] == 1
    assert config["lengths"] == {"a.q": 5, "a.up": 3}
    assert config["card"]["examples"] == ["2 + 2"]
    assert config["sha256"] == hashlib.sha256((folder / VECTORS_FILE).read_bytes()).hexdigest()
    assert "base_model: org/base\n" in (folder / README_FILE).read_text()


def test_replacing_keeps_nothing_stale(folder: Path) -> None:
    (folder / "curve.png").touch()
    Expert(ExpertCard("other"), {"m": torch.ones(1)}).save(folder)
    assert Expert.load(folder).name == "other"
    assert not (folder / "curve.png").exists()


def test_the_readme_and_other_files_are_not_needed(folder: Path) -> None:
    (folder / README_FILE).unlink()
    (folder / "metrics.jsonl").touch()
    assert Expert.load(folder).card == CARD


@pytest.mark.parametrize("what", ["other files", "a folder inside", "a file"])
def test_saving_never_deletes_what_is_no_expert(folder: Path, what: str) -> None:
    target = folder
    if what == "other files":
        (folder / CONFIG_FILE).rename(folder / "thesis.tex")
    elif what == "a folder inside":
        (folder / ".git").mkdir()
    else:
        target = folder / VECTORS_FILE
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError, match=r"give (a new folder|another path)"):
        Expert(CARD, {"m": torch.ones(1)}).save(target)
    assert sorted(folder.rglob("*")) == before


def test_an_empty_folder_can_be_saved_to(tmp_path: Path) -> None:
    Expert(CARD, {"m": torch.ones(1)}).save(tmp_path)
    assert Expert.load(tmp_path).parameters == 1


# -- a process killed while saving -----------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("kills", "swap", "start"),
    [
        ("steps", "exchange", "replace"),
        ("steps", "renames", "replace"),
        ("steps", "exchange", "first"),
        ("random", "exchange", "replace"),
        ("random", "renames", "replace"),
    ],
)
def test_a_kill_leaves_the_old_expert_or_the_new(
    tmp_path: Path, kills: str, swap: str, start: str
) -> None:
    script = ROOT / "tests" / "killed_saves.py"
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "experts" / "math"), kills, swap, start],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    left = Counter(run.stdout.split("\n")[:-1])
    before = "old" if start == "replace" else "nothing"
    assert left.keys() <= {before, "new", "done"}
    assert left[before]
    assert left["new"]
    if kills == "steps":
        assert left["done"] == 1  # every step of a save was tried
        assert left[before] + left["new"] > 10


@pytest.mark.parametrize("swap", ["exchange", "renames"])
def test_who_reads_while_it_is_replaced_sees_one_or_the_other(
    tmp_path: Path, swap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if swap == "renames":
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    versions = [Expert(ExpertCard(n), {"m": torch.full((50,), float(n))}) for n in ("0", "1")]
    target = tmp_path / "expert"
    versions[0].save(target)
    over = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for k in range(40):
                versions[k % 2].save(target)
        except BaseException as error:
            errors.append(error)
        finally:
            over.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not over.is_set():
        expert = Expert.load(target)
        assert set(expert.z["m"].tolist()) == {float(expert.name)}
        reads += 1
    writer.join()
    assert errors == []
    assert reads > 5


def test_a_folder_that_is_replaced_between_two_files_is_read_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_vectors = expert_folder._read_vectors
    others = [Expert(ExpertCard(n), {"m": torch.ones(2)}) for n in ("second", "third")]

    def replaced_meanwhile(*arguments: Any) -> Any:
        if others:
            others.pop(0).save(folder)
        return read_vectors(*arguments)

    monkeypatch.setattr(expert_folder, "_read_vectors", replaced_meanwhile)
    assert Expert.load(folder).name == "third"


def test_a_folder_that_is_moved_between_two_files_is_read_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_vectors = expert_folder._read_vectors

    def moved_meanwhile(*arguments: Any) -> Any:
        folder.rename(folder.with_name("elsewhere"))
        return read_vectors(*arguments)

    monkeypatch.setattr(expert_folder, "_read_vectors", moved_meanwhile)
    assert Expert.load(folder).card == CARD


@pytest.mark.parametrize("path", [None, 3, b"math", "ma\0th", ["math"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match="give a string or Path"):
        Expert.load(path)
    with pytest.raises(ConfigError, match="give a string or Path"):
        Expert(CARD, {"m": torch.ones(1)}).save(path)


# -- folders from strangers ------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert_refused_quickly(tmp_path / "nowhere", "no such folder")
    (tmp_path / "file").touch()
    assert_refused_quickly(tmp_path / "file", "Not a directory")


@pytest.mark.parametrize("name", [CONFIG_FILE, VECTORS_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused_quickly(folder, f"it has no {name}")


@pytest.mark.parametrize("name", [CONFIG_FILE, VECTORS_FILE])
def test_a_huge_file_is_not_read(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(2**40)  # sparse: takes no space
    assert_refused_quickly(folder, f"{name} has 1,099,511,627,776 bytes")


@pytest.mark.parametrize("name", [CONFIG_FILE, VECTORS_FILE])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert_refused_quickly(folder, "link that leads out of the folder")


def test_a_link_inside_the_folder_and_a_linked_folder_are_fine(folder: Path) -> None:
    (folder / VECTORS_FILE).rename(folder / "v1")
    (folder / VECTORS_FILE).symlink_to("v1")
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    assert Expert.load(link).card == CARD


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "dangling"])
def test_what_is_no_regular_file_is_refused(folder: Path, kind: str) -> None:
    path = folder / VECTORS_FILE
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "loop" else "gone")
    assert_refused_quickly(folder, VECTORS_FILE)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        pickle.dumps({"format_version": 1}),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(text)
    assert_refused_quickly(folder, CONFIG_FILE)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("format_version", 2, "format_version 2"),
        ("format_version", True, "format_version True"),
        ("format_version", None, "format_version None"),
        ("sha256", None, "sha256"),
        ("sha256", "0" * 64, "not the file"),
        ("lengths", {}, "lengths"),
        ("lengths", [5, 3], "lengths"),
        ("lengths", {"a.q": 5, "a.up": -3}, "length of 'a.up'"),
        ("lengths", {"a.q": 5, "a.up": True}, "length of 'a.up'"),
        ("lengths", {"a.q": 10**12}, "parameters"),
        ("lengths", {"a.q": 5}, "different modules"),
        ("lengths", {"a.q": 5, "a.up": 2}, r"needed is float32 \(2,\)"),
        ("card", None, "card"),
        ("card", {"name": "../../x"}, "cannot name an expert"),
        ("card", {"name": "x", "examples": "y"}, "examples"),
    ],
)
def test_a_wrong_entry_in_the_config_is_named(
    folder: Path, key: str, value: object, match: str
) -> None:
    rewrite_config(folder, lambda config: config.update({key: value}))
    assert_refused_quickly(folder, match)


def header_only(length: int, header: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + header


def claiming(dtype: str, shape: list[int], offsets: list[int], body: bytes) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    header = json.dumps({"m": entry}).encode()
    return header_only(len(header), header) + body


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        (b"", {"m": 1}),
        (pickle.dumps({"m": torch.ones(1)}), {"m": 1}),
        (header_only(2**62), {"m": 1}),
        (header_only(99_999_999), {"m": 1}),
        (claiming("F32", [2**40], [0, 2**42], b""), {"m": 1}),
        (claiming("F32", [2], [0, 4], b"\0" * 4), {"m": 2}),
        (claiming("F32", [1], [4, 8], b"\0" * 8), {"m": 1}),
        (claiming("F99", [1], [0, 4], b"\0" * 4), {"m": 1}),
        (claiming("F32", [1], [0, 4], b"\0" * 40), {"m": 1}),
        (save({"m": torch.ones(2, dtype=torch.float16)}), {"m": 2}),
        (save({"m": torch.ones(2, dtype=torch.bfloat16)}), {"m": 2}),
        (save({"m": torch.ones(2, dtype=torch.float64)}), {"m": 2}),
        (save({"m": torch.ones(2, dtype=torch.float8_e4m3fn)}), {"m": 2}),
        (save({"m": torch.ones(2, 1)}), {"m": 2}),
        (save({"m": torch.tensor(1.0)}), {"m": 1}),
        (save({"m": torch.tensor([1.0, float("nan")])}), {"m": 2}),
        (save({"m": torch.tensor([1.0, float("-inf")])}), {"m": 2}),
        (save({"m": torch.ones(1), "n": torch.ones(1)}), {"m": 1}),
    ],
)
def test_vectors_of_another_kind_are_refused(
    folder: Path, data: bytes, lengths: dict[str, int]
) -> None:
    with_vectors(folder, data, lengths)
    assert_refused_quickly(folder, "'m'|safetensors")


@given(st.sampled_from([CONFIG_FILE, VECTORS_FILE]), st.data())
def test_whatever_is_damaged_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "math"
    Expert(CARD, {"a.q": torch.ones(5)}).save(folder)
    content = bytearray((folder / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        content[at : data.draw(st.integers(at + 1, len(content)))] = data.draw(
            st.binary(max_size=9)
        )
    (folder / name).write_bytes(content)
    try:
        loaded = Expert.load(folder)
    except ExpertFormatError:
        return
    # Words on the card may have changed; what answers is computed from may not.
    assert loaded.z["a.q"].tolist() == [1.0] * 5
