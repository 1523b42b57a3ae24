"""Scripts in processes of their own, which find PyTorch and the libraries imported already.

Importing them takes longer than most scripts. One process that has done nothing but import them
forks for every script: a script has memory, streams and an exit code of its own, as one that Python
starts has.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 300  # for one script


class Imported:
    """The process that forks; see `imported`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a script with arguments, in this process's folder and environment."""
        assert self._process.stdin
        assert self._process.stdout
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            order = {
                "command": list(command), "environment": dict(os.environ), "folder": os.getcwd(),
                "out": str(out), "err": str(err),
            }  # fmt: skip
            print(json.dumps(order), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


@contextmanager
def imported() -> Iterator[Imported]:
    """A process that has imported what the examples use, and forks for every script."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.imported"],
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
        child = os.fork()
        if child == 0:
            _child(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _child(command: list[str], environment: dict[str, str], folder: str, **streams: Any) -> None:
    code = 1
    signal.alarm(_SECONDS)  # ends it
    try:
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(streams[stream], os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
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
