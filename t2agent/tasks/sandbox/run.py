"""Running Python programs that nobody has read: in a process of its own, within limits.

    result = run_python("print(6 * 7)")
    result.finished, result.stdout            # True, "42\\n"

    run_python(reply, tests="assert add(1, 2) == 3", seconds=3).finished

A program has only Python's standard library. Always, and everywhere: a wall-clock and a processor
time limit, limits on memory, open files, file sizes and output, no environment, an empty folder
that is removed afterwards, Python's audit hook against files, sockets, processes, signals and
ctypes, and the end of everything that was started. On top of that, on Linux, what the kernel
permits (`protection` says what; a test of each is in tests/unit/train/test_sandbox.py):

- "namespaces": user, process, network, mount, IPC. No network device, and whatever the program
  starts dies with it. With "disk" its folder is a small file system in memory, and with
  "read-only" no other can be written. Containers often forbid these.
- "landlock" (Linux 5.13): no file outside of that folder is opened but Python's own, to read.
- "seccomp" (x86-64 and arm64): no new process, no socket, no signal to others.

Without "disk" a program can write no file at all. Without namespaces *and* without seccomp (macOS,
or a container that forbids both) only the audit hook and the limits are left: they hold back
mistakes, not somebody who means harm. Windows is refused.

Whether a program did its work is `RunResult.finished`: its last line, and that of the tests, was
reached. The tests run in the program's process, after it, with Python's own built-in functions;
a program that leaves early, patches built-ins or traces them has not finished. One written to
forge this very harness, or whose values compare equal to everything, can still deceive it.
"""

from __future__ import annotations

import marshal
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from t2agent.errors import ConfigError

# Imported here so that they lie compiled beside this file when the child loads them.
from t2agent.tasks.sandbox import child  # noqa: F401
from t2agent.tasks.sandbox.pipes import Streams

if sys.platform == "linux":
    from t2agent.tasks.sandbox import kernel  # noqa: F401

MEMORY = 512 * 2**20
"""Bytes of address space that a program may have, unless said otherwise."""

OUTPUT = 256 * 2**10
"""Bytes that a program may print to each of its two streams, unless said otherwise."""

DISK = 32 * 2**20
"""Bytes that a program may write to files, where it may write at all."""

LAYERS = ("namespaces", "landlock", "seccomp", "audit")
"""The walls that can be left out, to test the others."""

_GRACE = 5.0  # for starting Python and clearing up, on a busy machine
_START = "import sys; sys.path.insert(0, sys.argv.pop()); import child; child.main()"
_FOLDER_PREFIX = "t2agent-sandbox-"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a program ended.

    Args:
        finished: program and tests ran to their last line.
        exit_code: its exit code, below 0 for the signal that ended it; None if it was killed.
        stdout, stderr: what it printed, cut at the limit.
        killed: "time" or "output", the limit for which it was ended; else empty. (Too much memory
            is a MemoryError of the program's own.)
        seconds: from start to end, Python's start included.
        layers: the walls that stood, see the module.
    """

    finished: bool
    exit_code: int | None
    stdout: str
    stderr: str
    killed: str
    seconds: float
    layers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Program:
    """A program for `run_many`: the arguments of `run_python` that differ from one to the next."""

    code: str
    tests: str = ""
    expose: tuple[str, ...] = ()
    stdin: str = ""


def run_python(
    code: str,
    *,
    tests: str = "",
    expose: Sequence[str] = (),
    stdin: str = "",
    seconds: float = 5.0,
    memory: int = MEMORY,
    output: int = OUTPUT,
    disk: int = DISK,
    without: Iterable[str] = (),
) -> RunResult:
    """Run a program in a process of its own. Safe to call from several threads.

    Args:
        code: the program. With ``tests`` its ``__name__`` is not "__main__".
        tests: run after it, with its global names; they count as passed when they raise nothing.
        expose: names of built-in functions which the tests are to find as the program defines
            them, because that is what it was asked to define.
        stdin: what the program reads from standard input.
        seconds: wall-clock time that it may take.
        memory: bytes of address space.
        output: bytes to each of standard output and standard error.
        disk: bytes to files, in its own folder.
        without: of `LAYERS`, those to leave out. Only for tests.

    Raises:
        ConfigError: a limit is unusable, the system is not supported, or no process can start.
    """
    _check(seconds, memory, output, disk, without)
    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
    try:
        os.chmod(folder, 0o711)  # the program may be another user
        job = {
            "code": _text(code),
            "tests": _text(tests),
            "expose": tuple(expose),
            "stdin": stdin.encode("utf-8", "surrogatepass"),
            "seconds": float(seconds),
            "memory": memory,
            "disk": disk,
            "folder": folder,
            "without": tuple(without),
        }
        return _run(marshal.dumps(job), folder, float(seconds), output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_many(programs: Sequence[Program], *, seconds: float = 5.0) -> list[RunResult]:
    """Run programs side by side, as many at a time as there are processors.

    Args:
        programs: what to run.
        seconds: wall-clock time for each.

    Returns:
        The results in the programs' order.
    """

    def one(program: Program) -> RunResult:
        return run_python(**asdict(program), seconds=seconds)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, programs))


@cache
def protection() -> frozenset[str]:
    """The walls that stand on this machine; a program is run to find out."""
    return run_python("", seconds=30).layers


def _check(seconds: float, memory: int, output: int, disk: int, without: Iterable[str]) -> None:
    if os.name != "posix" or not sys.executable:
        raise ConfigError(
            f"got the system {sys.platform!r}; programs are run on Linux and macOS only, where a "
            "process can be held within limits. Use a container or WSL"
        )
    for name, value, least in (
        ("seconds", seconds, 0.0),
        ("memory", memory, 2**26),
        ("output", output, 0),
        ("disk", disk, 2**16),
    ):
        if not least <= value < 2**62 or (name == "seconds" and not value):
            raise ConfigError(f"got {name}={value!r}; needed a number of {least} or more")
    unknown = sorted(set(without) - set(LAYERS))
    if unknown:
        raise ConfigError(f"got without={unknown}; needed some of {', '.join(LAYERS)}")


def _text(source: str) -> str:
    """Source as Python can compile it: a lone surrogate becomes a question mark."""
    return source.encode("utf-8", "replace").decode("utf-8")


def _run(job: bytes, folder: str, seconds: float, output: int) -> RunResult:
    # Not -I, which would ignore PYTHONHASHSEED: the order of a set is the same in every run.
    receive, report = os.pipe()
    flags = ["-s", "-S", "-P", "-B", "-X", "utf8"]
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            [sys.executable, *flags, "-c", _START, str(report), str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            pass_fds=(report,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(receive)
        raise ConfigError(
            f"cannot start {sys.executable}: {error.strerror or error}; free memory or processes"
        ) from error
    finally:
        os.close(report)
    streams = Streams(process, job, receive, output)
    try:
        killed = streams.pump(start + seconds + _GRACE)
        _end(process, gently=not killed)
        streams.drain()
    finally:
        _end(process, gently=False)
        streams.close()
    out, err, said = (bytes(text) for text in streams.texts)
    elapsed = time.monotonic() - start
    return _result(said.decode("ascii", "replace"), out, err, killed, elapsed, output)


def _result(
    said: str, out: bytes, err: bytes, killed: str, seconds: float, output: int
) -> RunResult:
    status, _, layers = said.partition(";")
    finished, _, code = status.partition(" ")
    if not layers and not killed:
        raise ConfigError(
            "the process for a program did not get as far as to run it: "
            f"{err.decode('utf-8', 'replace').strip()[-500:] or 'it said nothing'}; "
            "look at the machine's limits on processes and memory"
        )
    if not killed and (len(out) > output or len(err) > output):
        killed = "output"
    exit_code = int(code) if code and not killed else None
    if exit_code == -getattr(signal, "SIGXCPU", 0):
        exit_code = None
    if exit_code is None and not killed:
        killed = "time"
    return RunResult(
        finished=finished == "1" and exit_code is not None,
        exit_code=exit_code,
        stdout=out[:output].decode("utf-8", "replace"),
        stderr=err[:output].decode("utf-8", "replace"),
        killed=killed,
        seconds=seconds,
        layers=frozenset(filter(None, layers.split(","))),
    )


def _ended(process: int) -> bool:
    """Whether a child has ended; it is not reaped, so its number stays its own."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        time.sleep(0.05)  # what is left for it to do takes less
        return True
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """See to it that the first process, and all that is left of its group, has ended."""
    if process.returncode is not None:
        return
    if not gently:
        process.terminate()  # it then kills what it watches over, and leaves
    deadline = time.monotonic() + _GRACE
    while not _ended(process.pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
