"""The inside of `sandbox`: what runs in the separate process, around and under the program.

Three processes, none of which imports t2agent: the first one enters the namespaces and waits; the
second is the namespace's first process, so that everything in it dies with it (without
namespaces the first does its work, and kills what the program left); the third locks itself in
and runs the program, then the tests. The second tells the parent how the third ended.

A program has run to its end when the third process says so with a number drawn for this run,
after the last line of program and tests: leaving early, however it is done, says nothing.
"""

from __future__ import annotations

import builtins
import marshal
import os
import signal
import sys
import time
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn

_GRACE = 2.0
_NONCE_BYTES = 16

# Audit events that are refused whatever their arguments.
_EVENTS = (
    *("ctypes.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system"),
    *("os.kill", "signal.pthread_kill", "pty.", "fcntl.", "resource.", "syslog.", "ensurepip"),
    *("socket.connect", "socket.bind", "socket.get", "socket.send", "urllib.", "webbrowser."),
    *("os.chmod", "os.chown", "os.lchmod", "os.setxattr", "os.removexattr", "os.utime"),
    *("os.chflags", "os.lockf"),
    # With these a program could skip the lines of its own tests.
    *("sys.settrace", "sys.setprofile", "sys.monitoring", "sys.addaudithook", "gc."),
)
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir"),
    *("os.link", "os.symlink", "os.truncate"),
)
_LOOKS = ("os.listdir", "os.scandir", "os.chdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


_exec, _compile = exec, compile  # whatever the program makes of the names


class _Stop(BaseException):
    """The parent wants it to end now."""


def main() -> None:
    """Read the job from standard input, run it, report on the descriptor that argv[1] names."""
    job: dict[str, Any] = marshal.loads(sys.stdin.buffer.read())  # noqa: S302  # ours
    report = int(sys.argv.pop())
    kernel = _kernel()
    # Nothing of t2agent's folder is for the program to import.
    sys.path.remove(os.path.dirname(__file__))
    for name in ("child", "kernel"):
        sys.modules.pop(name, None)
    os.umask(0o077)
    os.chdir(job["folder"])
    _hand_over(job["stdin"])
    layers: set[str] = set()
    if kernel:
        kernel.become_nobody()
        kernel.die_with_parent()  # after the change of user, which forgets it
        if "namespaces" not in job["without"]:
            layers |= kernel.enter_namespaces(job["folder"], job["disk"])
            os.chdir(job["folder"])
    signal.signal(signal.SIGTERM, _stop)
    if "namespaces" in layers:
        inside = os.fork()
        if inside:
            os.close(report)
            _wait(inside, job["seconds"] + _GRACE)
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the first process then ignores it
        kernel.die_with_parent()
    elif kernel:
        kernel.adopt_orphans()
    _watch(job, layers, report, kernel)


def _kernel() -> Any:
    """The module `kernel`, beside this file on the path; None where there is no Linux."""
    if sys.platform != "linux":
        return None
    import kernel  # type: ignore[import-not-found]

    return kernel


def _stop(*_: object) -> None:
    raise _Stop


def _hand_over(text: bytes) -> None:
    """Make the text standard input, as a file without a name."""
    descriptor = os.open("stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink("stdin")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    os.close(descriptor)


def _watch(job: dict[str, Any], layers: set[str], report: int, kernel: Any) -> NoReturn:
    """Start the program's process, wait for its end, clear up after it and report."""
    receive, send = os.pipe()
    nonce = os.urandom(_NONCE_BYTES)
    program = os.fork()
    if program == 0:
        os.close(receive)
        os.close(report)
        _run(job, layers, kernel, send, nonce)
    os.close(send)
    status = _wait(program, job["seconds"])
    if "namespaces" not in layers:
        _kill_children()
    os.set_blocking(receive, False)
    said = b""
    with suppress(OSError):
        said = os.read(receive, 4096)
    known, _, proof = said.partition(b"\n")
    finished = status is not None and proof == nonce
    line = f"{int(finished)} {'' if status is None else status};{known.decode('ascii', 'replace')}"
    os.write(report, line.encode())
    os._exit(0)


def _wait(process: int, seconds: float) -> int | None:
    """The process's exit code, as in `subprocess`; None if it had to be killed at the deadline."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
    except _Stop:
        pass
    with suppress(OSError):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _kill_children() -> None:
    """Without namespaces: end every descendant, as orphans become this process's children."""
    deadline = time.monotonic() + _GRACE
    with suppress(ChildProcessError, _Stop):
        while time.monotonic() < deadline:
            for child in _children():
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)


def _children() -> list[int]:
    found = []
    with suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def _run(job: dict[str, Any], layers: set[str], kernel: Any, send: int, nonce: bytes) -> NoReturn:
    """Lock this process in and run the program; never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    roots = [
        os.getcwd(),
        os.path.dirname(os.path.realpath(os.__file__)),
        *map(os.path.realpath, sys.path),
    ]
    folder = os.getcwd() if "disk" in layers else None
    _limit(job, layers)
    layers.add("limits")
    without = job["without"]
    if kernel:
        kernel.drop_capabilities()
        libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
        libraries += [*roots, os.path.join(sys.base_prefix, "lib"), "/usr/share/zoneinfo"]
        libraries += ["/etc/ld.so.cache", "/etc/localtime", "/dev/zero", "/dev/urandom"]
        if "landlock" not in without and kernel.restrict_files(libraries, folder):
            layers.add("landlock")
        if "seccomp" not in without and kernel.filter_calls():
            layers.add("seccomp")
        roots += libraries
    if "audit" not in without:
        layers.add("audit")
        _guard(roots, folder)
    os.write(send, ",".join(sorted(layers)).encode() + b"\n")
    code = 1
    try:
        _execute(job["code"], job["tests"], job["expose"])
        os.write(send, nonce)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001  # it is the program's, to be shown
        with suppress(BaseException):
            sys.stderr = sys.__stderr__
            shown = error.__traceback__
            while shown and shown.tb_frame.f_code.co_filename[:1] != "<":
                shown = shown.tb_next
            sys.__excepthook__(type(error), error.with_traceback(shown), shown)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)


def _execute(code: str, tests: str, expose: tuple[str, ...]) -> None:
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # the module site does
    untouched = dict(vars(builtins))
    module = ModuleType("solution" if tests else "__main__")
    sys.modules[module.__name__] = module
    _exec(_compile(code, "<program>", "exec", dont_inherit=True), vars(module))
    if tests:
        # Built-in functions are Python's own here, whatever the program did to them.
        names = {k: v for k, v in vars(module).items() if k not in untouched or k in expose}
        names |= {"__builtins__": untouched, "__name__": "tests"}
        _exec(_compile(tests, "<tests>", "exec", dont_inherit=True), names)


def _limit(job: dict[str, Any], layers: set[str]) -> None:
    import resource

    def limit(name: str, soft: int, hard: int | None = None) -> None:
        kind = getattr(resource, f"RLIMIT_{name}", None)
        with suppress(ValueError, OSError):
            if kind is not None:
                resource.setrlimit(kind, (soft, soft if hard is None else hard))

    cpu = int(job["seconds"]) + 2
    limit("CPU", cpu, cpu + 1)
    limit("AS", job["memory"])
    limit("CORE", 0)
    limit("NOFILE", 64)
    limit("MEMLOCK", 0)
    limit("MSGQUEUE", 0)
    limit("FSIZE", job["disk"] if "disk" in layers else 0)
    if "namespaces" in layers:
        limit("NPROC", 128)  # counted within the namespace; does not bind root's own number


def _guard(roots: list[str], folder: str | None) -> None:
    """Python's own audit hook: the last wall where there is no other, else one more."""
    realpath, fspath = os.path.realpath, os.fspath
    readable = tuple({os.path.join(realpath(root), "") for root in roots})
    writable = () if folder is None else (os.path.join(realpath(folder), ""),)

    def within(path: Any, places: tuple[str, ...]) -> bool:
        if path is None:
            path = "."
        if isinstance(path, int):
            return True  # open already
        name = realpath(fspath(path))
        text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
        return text == "/dev/null" or (text + "/").startswith(places)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        refused = event.startswith(_EVENTS)
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & _WRITING
            refused = not within(arguments[0], writable if writes else readable + writable)
        elif event in _CHANGES:
            refused = not all(within(a, writable) for a in arguments if isinstance(a, str | bytes))
        elif event in _LOOKS:
            refused = not within(arguments[0], readable + writable)
        elif event == "socket.__new__":
            refused = arguments[1] != 1  # AF_UNIX: pairs, which asyncio needs
        if refused:
            raise PermissionError(f"the sandbox refuses {event}")

    sys.addaudithook(hook)
