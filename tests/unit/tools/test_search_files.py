from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from t2agent.errors import ConfigError
from t2agent.toolbox import load_tools

Text = Callable[..., str]


@pytest.fixture
def module(tmp_path: Path) -> object:
    load_tools("search_files", folder=tmp_path)
    (found,) = [m for name, m in sys.modules.items() if name.endswith("tools.search_files")]
    return found


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "trips").mkdir(parents=True)
    (folder / "a.txt").write_text("Shopping\nmilk and Bread\n")
    (folder / "trips" / "rome.md").write_text("# Rome\n  the BREAD was good, milk too  \n")
    (folder / "trips" / "oslo.md").write_text("cold\n")
    return folder


def test_lines_with_their_places(ok: Text, notes: Path) -> None:
    found = ok("search_files", {"query": "bread"}, folder=notes)
    assert found.splitlines() == [
        "a.txt:2: milk and Bread",
        "trips/rome.md:2: the BREAD was good, milk too",
    ]


def test_phrases_come_before_lines_with_all_words(ok: Text, notes: Path) -> None:
    (notes / "z.txt").write_text("bread   milk")
    found = ok("search_files", {"query": "  bread milk "}, folder=str(notes))
    assert [line.split(":")[0] for line in found.splitlines()] == [
        "z.txt",
        "a.txt",
        "trips/rome.md",
    ]


def test_nothing_found(ok: Text, notes: Path) -> None:
    told = ok("search_files", {"query": "caviar"}, folder=notes)
    assert told == "No line has 'caviar' (files searched: 3)."


def test_it_never_leaves_the_folder(ok: Text, notes: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("bread is the key")
    (notes / "link.txt").symlink_to(secret / "key.txt")
    (notes / "folder").symlink_to(secret)
    (notes / "loop").symlink_to(notes)
    (notes / ".env").write_text("bread=1")
    (notes / ".git").mkdir()
    (notes / ".git" / "config").write_text("bread")
    found = ok("search_files", {"query": "bread"}, folder=notes)
    assert len(found.splitlines()) == 2
    for query in ("../secret/key.txt", "../secret", str(secret / "key.txt"), "key", "*", "\0"):
        assert "No line" in ok("search_files", {"query": query}, folder=notes)


def test_a_folder_behind_a_link_is_what_the_user_gave(ok: Text, notes: Path) -> None:
    (notes.parent / "link").symlink_to(notes)
    found = ok("search_files", {"query": "bread"}, folder=notes.parent / "link")
    assert found.startswith("a.txt:2:")


def test_what_is_no_text_is_passed_over(ok: Text, notes: Path) -> None:
    (notes / "a.bin").write_bytes(b"bread\0bread")
    (notes / "latin.txt").write_bytes("Käse und bread".encode("latin-1"))
    (notes / "large.txt").write_text("bread\n" * 200_000)
    os.mkfifo(notes / "pipe")
    found = ok("search_files", {"query": "bread"}, folder=notes).splitlines()
    assert [line.split(":")[0] for line in found[:-1]] == ["a.txt", "latin.txt", "trips/rome.md"]
    assert found[-1] == "(files of more than 1 MiB that were left out: 1)"


def test_hits_are_limited_and_long_lines_cut(ok: Text, notes: Path) -> None:
    (notes / "many.txt").write_text("x" * 5000 + " bread " + "y" * 5000 + "\n" + "bread\n" * 1000)
    found = ok("search_files", {"query": "bread"}, folder=notes).splitlines()
    assert len(found) == 21
    assert found[-1] == "(only the first 20 lines are shown)"
    assert max(map(len, found)) < 250
    assert "xxx bread yyy" in found[1]
    (notes / "many.txt").write_text("bread, then milk\n" * 30)
    found = ok("search_files", {"query": "milk bread"}, folder=notes).splitlines()
    assert len(found) == 21
    assert found[-1] == "(only 20 lines are shown)"


def test_time_is_limited(
    ok: Text, notes: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    assert "stopped after" in ok("search_files", {"query": "bread"}, folder=notes)


def test_files_are_limited(
    ok: Text, notes: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 1)
    found = ok("search_files", {"query": "bread"}, folder=notes).splitlines()
    assert found == ["a.txt:2: milk and Bread", "(only the first 1 files were searched)"]


def test_names_and_lines_stay_on_one_line(ok: Text, notes: Path) -> None:
    (notes / "a\nb\x1b[2J.txt").write_text("cheese\x1b[31m\r\n")
    found = ok("search_files", {"query": "cheese"}, folder=notes)
    assert found == "a b [2J.txt:1: cheese [31m"


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_not_unicode(ok: Text, notes: Path) -> None:
    Path(os.fsdecode(os.fsencode(notes) + b"/\xff.txt")).write_text("cheese")
    assert ok("search_files", {"query": "cheese"}, folder=notes).endswith(".txt:1: cheese")


def test_files_that_may_not_be_read(ok: Text, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def guarded(path: object, *rest: object, **more: object) -> int:
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "no", str(path))
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", guarded)
    assert len(ok("search_files", {"query": "bread"}, folder=notes).splitlines()) == 1


@pytest.mark.parametrize("query", ["", "  ", "x" * 201, "x" * 10**6])
def test_queries_that_are_refused(refused: Text, notes: Path, query: str) -> None:
    assert refused("search_files", {"query": query}, folder=notes)


@pytest.mark.parametrize("folder", ["missing", "\0", 3, None, __file__])
def test_no_folder(folder: object) -> None:
    with pytest.raises(ConfigError, match="give one that exists"):
        load_tools("search_files", folder=folder)
