"""A hundred hostile programs: each ends within its limits, and nothing is left behind.

They run twice: with every wall, and without Python's audit hook, so that the kernel's walls are
tried as well.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from t2agent.tasks.sandbox.run import RunResult, protection, run_python
from tests.unit.tasks.sandbox import hostile

if sys.platform != "linux" or os.uname().machine not in hostile.NUMBERS:
    pytest.skip("attacks on what Linux offers, by its call numbers", allow_module_level=True)

SECONDS = 1.0
LATE = 12.0  # for starting, ending and clearing up on a busy machine
KERNEL = {"namespaces", "landlock", "seccomp"}


@dataclass
class Battle:
    """What was run, and what stood in its way, before and after."""

    results: dict[tuple[str, str], RunResult] = field(default_factory=dict)
    harm: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=["all walls", "no audit hook"])
def battle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Battle]:
    without = () if request.param == "all walls" else ("audit",)
    if without and not protection() >= KERNEL:
        pytest.skip(f"of the kernel's walls there are only {sorted(protection())} here")
    folder = tmp_path_factory.mktemp("outside")
    temporary = tmp_path_factory.mktemp("temporary")
    secret = folder / "secret.txt"
    secret.write_text("the SECRET")
    secret.chmod(0o600)
    before = secret.stat()
    tempfile.tempdir = str(temporary)
    with ExitStack() as stack:
        stack.callback(setattr, tempfile, "tempdir", None)
        tcp, tcp6, udp, unix, abstract = (
            stack.enter_context(socket.socket(*kind))
            for kind in ((2, 1), (10, 1), (2, 2), (1, 1), (1, 1))
        )
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "s"))
        abstract.bind(f"\0{hostile.MARK}-{os.getpid()}")
        for server in (tcp, unix, abstract):
            server.listen()
        if socket.has_ipv6:
            try:
                tcp6.bind(("::1", port))
                tcp6.listen()
            except OSError:
                pass  # no IPv6 here
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(victim.kill)
        values: dict[str, object] = {
            "secret": secret,
            "folder": folder,
            "here": Path(__file__),
            "parent": os.getpid(),
            "victim": victim.pid,
            "port": port,
            "udp": udp.getsockname()[1],
            "unix": folder / "s",
            "abstract": f"{hostile.MARK}-{os.getpid()}",
            **hostile.NUMBERS[os.uname().machine],
        }
        fought = Battle()
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda key: _attack(key, values, without), hostile.PROGRAMS)
            fought.results = dict(zip(hostile.PROGRAMS, found, strict=True))
        process = psutil.Process(victim.pid)
        after = secret.stat()
        harm = {
            "the victim died": victim.poll() is not None,
            "its priority": process.nice() != psutil.Process().nice(),
            "its limits": process.rlimit(7) != psutil.Process().rlimit(7),
            "the secret": secret.read_text() != "the SECRET",
            "its mode or owner": _marks(before) != _marks(after),
            "files beside it": sorted(os.listdir(folder)) != ["s", "secret.txt"],
            "files in the temporary folder": bool(os.listdir(temporary)),
            "files elsewhere": any(
                Path(place, hostile.MARK).exists() for place in ("/tmp", "/dev/shm")
            ),
            "connections": any(map(_called, (tcp, udp, unix, abstract))),
            "processes": bool(_left(temporary)),
        }
        fought.harm = [name for name, done in harm.items() if done]
        yield fought


def _attack(key: tuple[str, str], values: dict[str, object], without: tuple[str, ...]) -> RunResult:
    family, name = key
    code = hostile.FAMILIES[family][name]
    for word, value in values.items():
        code = code.replace(f"{{{word}}}", str(value))
    tests = hostile.TESTS if family == "cheat" else ""
    return run_python(code, tests=tests, seconds=SECONDS, memory=192 * 2**20, without=without)


def _marks(status: os.stat_result) -> tuple[int, int, int, int, int]:
    mode = stat.S_IMODE(status.st_mode)
    return mode, status.st_uid, status.st_nlink, status.st_mtime_ns, status.st_size


def _called(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.recv(1) if server.type == socket.SOCK_DGRAM else server.accept()
    except BlockingIOError:
        return False
    return True


def _left(temporary: Path) -> list[psutil.Process]:
    """Processes of ours, by what they were started with or where they are; they get a moment."""
    deadline = time.monotonic() + 5
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                ours = f"{hostile.MARK} 9" in words or "sleep 99999" in words
                if ours or process.cwd().startswith(str(temporary)):
                    left.append(process)
            except psutil.Error:
                continue
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def test_there_are_a_hundred() -> None:
    assert len(hostile.PROGRAMS) >= 100


def test_nothing_is_harmed_or_left_behind(battle: Battle) -> None:
    assert battle.harm == []


@pytest.mark.parametrize("key", hostile.PROGRAMS, ids=" - ".join)
def test_ends_within_its_limits(battle: Battle, key: tuple[str, str]) -> None:
    family, name = key
    result = battle.results[key]
    assert "ESCAPED" not in result.stdout + result.stderr
    assert "SECRET" not in result.stdout + result.stderr
    assert result.seconds < SECONDS + LATE
    assert len(result.stdout) + len(result.stderr) <= 2 * 256 * 2**10
    if family == "endless":
        assert result.killed == "time"
    if family == "flood":
        assert result.killed == "output" or "MemoryError" in result.stderr
    if family in ("endless", "flood", "cheat") and (name, result.layers) != (
        "traced",
        result.layers - {"audit"},
    ):
        assert not result.finished
    if (
        family in ("process", "signal", "file", "network")
        and "print('held" in (hostile.FAMILIES[family][name])
    ):
        assert result.stdout == "held\n" or result.killed or result.exit_code, result
