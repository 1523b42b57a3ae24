"""From the shell's prompt to the first token: ``t2agent dispatch`` and ``t2agent chat``.

Each runs as a process of its own, in turn with one that only imports PyTorch and transformers'
models, which no answer can do without. Figures wanted: 1.5 s for a whole ``dispatch``, 4 s until
``chat`` prints the first token. Processor times are of whole processes, and mean something on a
busy machine as well. What is done once for a machine (fetching, converting, decomposing, fitting)
is done before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from t2agent.errors import ConfigError
from t2agent.models.installed import AUTO, named

_PROMPT = "What is 7 times 8?"
_IMPORTS = "import torch, transformers.modeling_utils; print('.', flush=True)"


def run(repeats: int = 5, model: str = AUTO) -> dict[str, float | str]:
    """Medians: seconds until the first character is printed ("_s"; of dispatch until the end), and
    of the processor until the end ("_cpu_s").

    Raises:
        ConfigError: nothing would be timed, or a command fails.
    """
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; at least 1 run must be timed")
    base = named(model)
    t2agent = (sys.executable, "-m", "t2agent")
    commands = {
        "imports": (sys.executable, "-c", _IMPORTS),
        "dispatch": (*t2agent, "dispatch", "-m", base, _PROMPT),
        "first_token": (*t2agent, "chat", "-m", base, "--max-tokens", "8", _PROMPT),
    }
    return {"base": base, "repeats": repeats, **medians(commands, repeats, whole={"dispatch"})}


def medians(
    commands: Mapping[str, Sequence[str]], repeats: int, whole: Collection[str]
) -> dict[str, float]:
    """Time commands in turn; of those in ``whole``, until the end."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            timed = _timed(command, whole=name in whole)
            if turn:  # the first fills the caches
                found[name].append(timed)
    result = {}
    for name, times in found.items():
        result[f"{name}_s"] = median(wall for wall, _ in times)
        result[f"{name}_cpu_s"] = median(cpu for _, cpu in times)
    return result


def _timed(command: Sequence[str], *, whole: bool) -> tuple[float, float]:
    """Seconds until a command prints something or, if whole, ends; and of the processor."""
    before = os.times()
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - begin
        _, told = process.communicate()
        seconds = time.perf_counter() - begin if whole else first
    after = os.times()
    if process.returncode:
        last = told.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigError(f"{' '.join(command[1:])} ended with {process.returncode}: {last}")
    user = after.children_user - before.children_user
    return seconds, user + after.children_system - before.children_system
