from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from t2agent.errors import ConfigError
from t2agent.tasks.sandbox import run as sandbox
from t2agent.tasks.sandbox.run import LAYERS, Program, protection, run_many, run_python

linux = pytest.mark.skipif(sys.platform != "linux", reason="walls that Linux offers")
# What is left on machines that permit less, down to no wall at all.
FEWER = [
    (),
    ("audit",),
    ("namespaces",),
    ("landlock",),
    ("seccomp",),
    ("namespaces", "landlock"),
    ("namespaces", "seccomp"),
    ("namespaces", "landlock", "seccomp"),
    LAYERS,
]


def test_runs_a_program() -> None:
    result = run_python("print(6 * 7)\nprint('née')", stdin="")
    assert result.finished
    assert result.exit_code == 0
    assert (result.stdout, result.stderr, result.killed) == ("42\nnée\n", "", "")
    assert 0 < result.seconds < 30


def test_a_program_reads_its_input_and_has_no_environment() -> None:
    os.environ["T2_SECRET"] = "yes"
    try:
        result = run_python(
            "import os, sys; print(sys.stdin.read()); print(sorted(os.environ))", stdin="é" * 10**6
        )
    finally:
        del os.environ["T2_SECRET"]
    assert result.killed == "output"
    short = run_python("import os, sys; print(input()); print(sorted(os.environ))", stdin="one\n2")
    assert short.stdout.splitlines()[0] == "one"
    assert "T2_SECRET" not in short.stdout


def test_what_it_prints_at_the_end_and_exit_codes() -> None:
    left = run_python("import sys; print('so far'); sys.exit(7)")
    assert (left.finished, left.exit_code, left.stdout) == (False, 7, "so far\n")
    assert run_python("raise SystemExit").exit_code == 0
    said = run_python("raise SystemExit('why')")
    assert said.exit_code == 1
    failed = run_python("def f():\n    return 1 / 0\nf()")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Traceback")
    assert "ZeroDivisionError" in failed.stderr
    assert "sandbox" not in failed.stderr
    assert run_python("import os; os.abort()", without=("audit",)).exit_code == -6
    assert "SyntaxError" in run_python("def f(:").stderr
    assert run_python("x = '\ud800'").finished  # cannot be encoded: a question mark
    assert not run_python("x = 1\0").finished


def test_limits_on_time_and_output_and_memory() -> None:
    slow = run_python("print('a', flush=True)\nwhile True: pass", seconds=0.5)
    assert (slow.killed, slow.exit_code, slow.finished) == ("time", None, False)
    assert slow.stdout == "a\n"
    loud = run_python("while True: print('x' * 99)", output=1000)
    assert (loud.killed, loud.exit_code, len(loud.stdout)) == ("output", None, 1000)
    just = run_python("print('x' * 999)", output=1000)
    assert just.finished
    over = run_python("print('x' * 1000)", output=1000)
    assert (over.killed, over.finished) == ("output", False)
    large = run_python("x = bytearray(2**28)", memory=2**27)
    assert (large.killed, large.exit_code) == ("", 1)
    assert "MemoryError" in large.stderr
    assert run_python("x = bytearray(2**28)").finished


def test_tests_run_after_the_program_with_its_names() -> None:
    code = "import math\ndef area(r): return math.pi * r * r\nif __name__ == '__main__': 1 / 0"
    assert run_python(code, tests="assert abs(area(1) - 3.14159) < 1e-3").finished
    failed = run_python(code, tests="assert area(1) == 3")
    assert not failed.finished
    assert "AssertionError" in failed.stderr
    assert not run_python(code, tests="assert nothing").finished
    main = run_python(code)
    assert not main.finished
    own = "def sum(a, b): return 17"
    assert not run_python(own, tests="assert sum(1, 2) == 17").finished
    assert run_python(own, tests="assert sum(1, 2) == 17", expose=("sum",)).finished
    data = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 3"
    assert run_python(data, tests="assert A() == A(3)").finished


def test_the_same_every_time() -> None:
    code = "print(set('abcdefgh'), hash('a'))"
    assert len({run_python(code).stdout for _ in range(3)}) == 1


def test_many_programs_side_by_side() -> None:
    programs = [Program(f"print({n})", tests=f"assert {n} % 3", stdin="x") for n in range(12)]
    results = run_many(programs, seconds=20)
    assert [r.stdout for r in results] == [f"{n}\n" for n in range(12)]
    assert [r.finished for r in results] == [bool(n % 3) for n in range(12)]
    assert run_many([]) == []


@linux
@pytest.mark.parametrize("without", FEWER, ids=lambda w: "-".join(w) or "nothing")
def test_each_wall_stands_without_the_others(without: tuple[str, ...], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    attack = (
        "import os, socket\n"
        "def held(f, *a):\n"
        "    try: f(*a)\n"
        "    except (OSError, RuntimeError): return True\n"
        "    return False\n"
        "print('socket', held(socket.create_connection, ('127.0.0.1', 9), 1))\n"
        f"print('read', held(open, {str(secret)!r}))\n"
        f"print('write', held(lambda: open({str(secret)!r}, 'a').write('x')))\n"
        f"print('remove', held(os.remove, {str(secret)!r}))\n"
        f"print('mode', held(os.chmod, {str(secret)!r}, 0o600))\n"
        "print('own', not held(lambda: os.write(os.open('a', 65), b'x')))\n"  # create, write
    )
    result = run_python(attack, without=without, seconds=10)
    held = dict(line.split() for line in result.stdout.splitlines())
    stands = result.layers
    assert not stands & set(without)
    if stands & {"landlock", "audit"}:
        assert held["read"] == "True"
    if stands & {"landlock", "audit", "read-only"}:
        assert held["write"] == held["remove"] == "True"
        assert secret.read_text() == "hidden"
    if stands & {"seccomp", "audit", "read-only"}:
        assert held["mode"] == "True"
    assert held["own"] == str("disk" in stands)


@linux
@pytest.mark.parametrize("without", [LAYERS, ("landlock", "seccomp", "audit")], ids=len)
def test_what_a_program_starts_dies_with_it(without: tuple[str, ...]) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execv('/bin/sleep', ['t2-daemon', '98765'])\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
        "print('started', flush=True)\n"
    )
    for ending in ("", "\nwhile True: pass", "\nimport os; os.kill(os.getpid(), 9)"):
        result = run_python(code + ending, without=without, seconds=1.5)
        assert result.stdout == "started\n"
        deadline = time.monotonic() + 5
        while left := [p for p in psutil.process_iter() if _is_daemon(p)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.02)


def _is_daemon(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == ["t2-daemon"]
    except psutil.Error:
        return False


def test_its_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run_python("import os; print(os.getcwd()); print(os.listdir())")
    assert result.stdout.startswith(str(tmp_path))
    assert result.stdout.endswith("[]\n")
    run_python("open('a', 'w').write('x')\nwhile True: pass", seconds=0.3)
    assert os.listdir(tmp_path) == []


def test_no_descriptors_or_threads_are_lost() -> None:
    run_python("")
    before = psutil.Process().num_fds()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: run_python("print(1)"), range(8)))
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"memory": 1000},
        {"output": -1},
        {"disk": 0},
        {"without": ("doors",)},
    ],
    ids=str,
)
def test_unusable_limits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="needed"):
        run_python("", **options)  # type: ignore[arg-type]


def test_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.os, "name", "nt")
    with pytest.raises(ConfigError, match="Linux and macOS only"):
        run_python("")


def test_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigError, match="cannot start /nowhere/python"):
        run_python("")
    monkeypatch.setattr(sandbox.sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="did not get as far"):
        run_python("")


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or sys.version_info[:2] != (3, 11),
    reason="root gives up its rights where the system's Python can be read by everybody",
)
def test_root_becomes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Path("/usr/bin/python3.11")
    if not system.exists():
        pytest.skip("no such Python of the system's")
    monkeypatch.setattr(sandbox.sys, "executable", str(system))
    for without in ((), ("namespaces",)):
        result = run_python("import os; print(os.getuid())", without=without)
        assert result.stdout == "65534\n"


def test_protection_names_the_walls() -> None:
    assert "audit" in protection()
