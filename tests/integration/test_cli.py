"""The command line as a process of its own: start, streams, exit codes, a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models import build_text_model

ROOT = Path(__file__).resolve().parents[2]


def t2agent(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "t2agent", *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bases") / "tiny-text"
    model = build_text_model()
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from t2agent.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'sklearn', 'langchain_core', 'PIL'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0, done.stderr
    for name in ("chat", "agent", "dispatch", "experts", "train", "decompose", "bench", "doctor"):
        assert re.search(rf"\b{name}\b", done.stdout)


def test_json_alone_on_standard_output(tiny):
    done = t2agent("chat", "Hello", "--dispatch", "off", "-m", tiny, "--max-tokens", "4", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model_name"] == tiny
    assert done.stderr == ""  # no progress bars, no warnings of libraries


def test_exit_codes_and_one_line():
    failed = t2agent("experts", "show", "nobody", "--json")
    wrong = t2agent("experts", "list", "--colour", "red")
    version = t2agent("--version")

    assert (failed.returncode, wrong.returncode, version.returncode) == (1, 2, 0)
    assert failed.stdout == wrong.stdout == ""
    assert re.fullmatch(r"error: [^\n]*nobody[^\n]*\n", failed.stderr)
    assert "--colour" in wrong.stderr
    assert version.stdout.startswith("t2agent ")


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(place):
    show = ("experts", "show", "nobody")
    done = t2agent("--debug", *show) if place == "before" else t2agent(*show, "--debug")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ExpertNotFoundError" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_conversation_at_a_terminal(tiny):
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "t2agent", "chat", "--dispatch", "off", "-m", tiny,
         "--max-tokens", "4"],
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    try:
        screen = _until(ours, "> ")
        assert "/quit" in screen
        os.write(ours, b"Hello there\n")
        assert "[off]" in _until(ours, "> ", after="[off]")
        os.write(ours, b"%s\n" % (b"word " * 400))  # too long: the conversation goes on
        assert "error:" in _until(ours, "> ", after="error:")
        os.write(ours, b"/new\n")
        _until(ours, "> ")
        os.write(ours, b"\x04")
        assert child.wait(60) == 0
    finally:
        child.kill()
        os.close(ours)


def _until(terminal: int, wanted: str, *, after: str = "", seconds: float = 120) -> str:
    """What the terminal shows until ``wanted`` comes (behind ``after``)."""
    import select

    screen, end = "", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            screen += os.read(terminal, 65536).decode(errors="replace")
        begin = screen.find(after)
        if begin >= 0 and wanted in screen[begin + len(after) :]:
            return screen
    pytest.fail(f"{wanted!r} did not come; the terminal shows {screen!r}")
