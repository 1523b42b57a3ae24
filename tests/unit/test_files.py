from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from t2agent import files
from t2agent.files import (
    folder_names,
    recover_folder,
    recover_folders,
    remove_folder,
    replace_folder,
    settle_folder,
    write_bytes,
    write_text,
)


@pytest.fixture(params=["exchange", "renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of putting a new folder in place of the old one."""
    if request.param == "renames":
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    return str(request.param)


def put(folder: Path, name: str, text: str) -> None:
    with replace_folder(folder) as new:
        (new / name).write_text(text)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_text(path, "añb\r\n")
    assert path.read_bytes() == "añb\r\n".encode()
    write_bytes(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert names_in(path.parent) == ["file.txt"]


def test_a_file_has_the_usual_rights(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "usual").write_text("")
    put(tmp_path / "folder", "x", "")
    (tmp_path / "usual-folder").mkdir()
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert mode["ours"] == mode["usual"]
    assert mode["folder"] == mode["usual-folder"]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_folder_is_replaced_and_nothing_of_it_kept(tmp_path: Path, swap: str) -> None:
    folder = tmp_path / "a" / "folder"
    put(folder, "one", "1")
    put(folder, "two", "2")
    assert names_in(folder) == ["two"]
    assert names_in(folder.parent) == ["folder"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="Linux exchanges folders")
def test_linux_exchanges_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("not on this file system")
    assert names_in(tmp_path / "b") == ["x"]
    assert names_in(tmp_path / "a") == []


def test_a_block_that_raises_leaves_the_old_folder(tmp_path: Path, swap: str) -> None:
    folder = tmp_path / "folder"
    put(folder, "one", "1")

    def fail() -> None:
        with replace_folder(folder) as new:
            (new / "two").touch()
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert names_in(folder) == ["one"]
    assert names_in(tmp_path) == ["folder"]


def test_a_link_stays_a_link(tmp_path: Path, swap: str) -> None:
    put(tmp_path / "real", "one", "1")
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    put(tmp_path / "link", "two", "2")
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "real") == ["two"]


def test_a_folder_set_aside_is_put_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name, "old", "")
        (tmp_path / name).rename(tmp_path / f".{name}.old")
    recover_folder(tmp_path / "one")
    assert names_in(tmp_path) == [".two.old", "one"]
    recover_folders(tmp_path)
    assert names_in(tmp_path) == ["one", "two"]
    recover_folders(tmp_path / "missing")


class OtherWriter:
    """Another process that replaces a folder by two renames: one step at each look of ours."""

    def __init__(self, final: Path, steps: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.final, self.steps = final, list(steps)
        self.aside, self.new = final.with_name(f".{final.name}.old"), final.with_name(".f.aa.new")
        self.new.mkdir()
        (self.new / "new").touch()
        self.looks = 0
        monkeypatch.setattr(files, "recover_folder", self.look)

    def look(self, target: Path) -> None:
        self.looks += 1
        step = self.steps.pop(0) if self.steps else ""
        if step == "A":  # moves the old folder aside, just after we looked for one there
            recover_folder(target)
            self.final.rename(self.aside)
        elif step == "a":  # moved it aside before, and we may not put it back
            pass
        elif step == "N":  # gives the new one its name
            self.new.rename(self.final)
        else:
            recover_folder(target)


@pytest.mark.parametrize("steps", ["A", "AN", "AaaaaaN", "Aaa"])
def test_a_folder_that_is_being_replaced_is_there(
    tmp_path: Path, steps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "f"
    put(folder, "old", "")
    OtherWriter(folder, steps, monkeypatch)
    assert settle_folder(folder)
    assert names_in(folder) == (["new"] if "N" in steps else ["old"])


def test_a_folder_that_seems_missing_before_and_after_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "f"
    put(folder, "old", "")
    folder.rename(tmp_path / "away")
    looks = 0

    def look(_target: Path) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            (tmp_path / "away").rename(folder)

    monkeypatch.setattr(files, "recover_folder", look)
    assert settle_folder(folder)


def test_a_missing_folder_is_missing_soon_whatever_others_do(tmp_path: Path) -> None:
    (tmp_path / ".other.aa.new").mkdir()
    (tmp_path / "[x]").mkdir()
    (tmp_path / ".x.aa.new").mkdir()
    begin = time.perf_counter()
    assert not settle_folder(tmp_path / "f")
    assert not settle_folder(tmp_path / "[x")
    assert time.perf_counter() - begin < 0.09  # not as long as is waited for a writer


@pytest.mark.parametrize(("name_for_now", "known"), [(".f.old", ()), (".f.bb.new", ("f", "gone"))])
def test_a_folder_that_is_being_replaced_is_listed(
    tmp_path: Path, name_for_now: str, known: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "g", "x", "")
    put(tmp_path / name_for_now, "x", "")
    monkeypatch.setattr(files, "recover_folders", lambda _parent: None)  # it was a moment too early

    def look(target: Path) -> None:
        if target.name == "f" and not target.exists():
            (tmp_path / name_for_now).rename(target)

    monkeypatch.setattr(files, "recover_folder", look)
    assert folder_names(tmp_path, known) == ["f", "g"]
    assert folder_names(tmp_path / "nowhere") == []


def test_an_old_version_beside_a_whole_folder_is_not_put_back(tmp_path: Path) -> None:
    put(tmp_path / "one", "new", "")
    (tmp_path / ".one.old").mkdir()
    recover_folders(tmp_path)
    assert names_in(tmp_path / "one") == ["new"]
    put(tmp_path / "one", "newer", "")
    assert names_in(tmp_path) == ["one"]


def test_a_removed_folder_does_not_come_back(tmp_path: Path) -> None:
    put(tmp_path / "one", "new", "")
    (tmp_path / ".one.old").mkdir()
    remove_folder(tmp_path / "one")
    recover_folders(tmp_path)
    assert names_in(tmp_path) == []


def test_what_killed_processes_left_is_swept_but_not_a_live_ones(tmp_path: Path) -> None:
    stale, live, other = (
        tmp_path / name for name in (".one.aa.new", ".one.bb.new", ".another.aa.new")
    )
    long_ago = time.time() - 2 * files._STALE_SECONDS
    for folder in (stale, live, other):
        folder.mkdir()
        (folder / "x").touch()
    for folder in (stale, other):
        os.utime(folder, (long_ago, long_ago))
    put(tmp_path / "one", "x", "")
    assert names_in(tmp_path) == [".another.aa.new", ".one.bb.new", "one"]


def test_writers_at_once_leave_one_of_theirs(tmp_path: Path, swap: str) -> None:
    folder = tmp_path / "folder"
    errors: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(15):
                with replace_folder(folder) as new:
                    (new / "one").write_text(text)
                    (new / "two").write_text(text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(str(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (folder / "one").read_text() == (folder / "two").read_text()
    assert names_in(tmp_path) == ["folder"]
