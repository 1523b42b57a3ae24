"""Programs in processes of their own, which find PyTorch and the libraries imported already.

Importing them takes longer than most programs. One process that has done nothing but import them
forks for every program: it has memory, streams and an exit code of its own, as one that Python
starts has.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 300  # for one program

Done = subprocess.CompletedProcess[str]


class Imported:
    """The process that forks; see `imported`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, command: Sequence[str]) -> Done:
        """Run a script, or "-m" and a module, with arguments, in this folder and environment."""
        return self.together([(command, {})])[0]

    def together(self, commands: Sequence[tuple[Sequence[str], Mapping[str, str]]]) -> list[Done]:
        """Run several at once, each with more in its environment; see also `ranks`."""
        assert self._process.stdin
        assert self._process.stdout
        with ExitStack() as folders:
            orders = []
            for command, more in commands:
                folder = Path(folders.enter_context(tempfile.TemporaryDirectory()))
                orders.append({
                    "command": list(command), "environment": {**os.environ, **more},
                    "folder": os.getcwd(), "out": str(folder / "out"), "err": str(folder / "err"),
                })  # fmt: skip
            print(json.dumps(orders), file=self._process.stdin, flush=True)
            codes = json.loads(self._process.stdout.readline())
            return [
                subprocess.CompletedProcess(
                    order["command"],
                    code,
                    *(Path(order[name]).read_text() for name in ("out", "err")),
                )
                for order, code in zip(orders, codes, strict=True)
            ]


def ranks(processes: int) -> list[dict[str, str]]:
    """The environments of processes that train together, as launchers make them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return [{"RANK": str(k), "LOCAL_RANK": str(k), **shared} for k in range(processes)]


@contextmanager
def imported(python: str = sys.executable, **environment: str) -> Iterator[Imported]:
    """A process that has imported what is used most, and forks for every program."""
    with subprocess.Popen(
        [python, "-m", "tests.imported"], env={**os.environ, **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        yield Imported(process)
        assert process.stdin
        process.stdin.close()  # it ends


def _serve() -> None:
    import sentence_transformers  # noqa: F401

    import t2agent.chat.agent
    import t2agent.chat.chat_model
    import t2agent.train.trainer  # noqa: F401

    for line in sys.stdin:
        children = []
        for order in json.loads(line):
            child = os.fork()
            if child == 0:
                _child(**order)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def _child(command: list[str], environment: dict[str, str], folder: str, **streams: Any) -> None:
    code = 1
    signal.alarm(_SECONDS)  # ends it
    try:
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(streams[stream], os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).parent))
            runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
