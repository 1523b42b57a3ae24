"""Training in several processes is training in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

# Both methods in one process each: starting one takes longer than these steps.
PROGRAM = """
import sys
from pathlib import Path
from t2agent.cli import main

file, runs = sys.argv[1:]
settings = [
    "prompts=7", "samples=4", "max_tokens=6", "validation=3", "validate_every=1", "patience=0",
    "kl=0.1", "mixed_precision=no", "rows=1",
]
options = [part for setting in settings for part in ("--set", setting)]
for method in ("sft", "reinforce"):
    run = ["--checkpoint", f"{runs}/{method}", "--steps", "2", "--anyway", "--reward", "number"]
    try:
        main(["train", file, "-n", f"{method}-{Path(runs).name}", "--method", method, *run, *options])
    except SystemExit as done:
        if done.code:
            raise
"""


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    lines = [{"prompt": f"What is {i} plus {i % 4}?", "answer": f"{i + i % 4}"} for i in range(8)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    alone, said = run(file, tmp_path / "alone", processes=1)
    together, said_together = run(file, tmp_path / "together", processes=2)

    # Only the first process tells of the result.
    assert said_together[1] == ""
    assert said_together[0].count("Saved in") == said[0].count("Saved in") == 2
    assert alone.keys() == together.keys()
    for name, one in alone.items():
        torch.testing.assert_close(together[name], one, rtol=0, atol=1e-6)
    for method in ("sft", "reinforce"):
        moved = [bool((z != 1).any()) for name, z in alone.items() if name.startswith(method)]
        assert moved
        assert all(moved)


def run(file: Path, folder: Path, *, processes: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Train by both methods in processes as launchers start them: the last z, and what each says.

    7 prompts a step of 8 examples and 3 to validate on: two processes have unequal shares, and
    prompts come twice. One prompt is in a pass (rows=1), so that what differs is the order of sums
    and not the rounding inside the model, which Adam makes 2e-6 of where gradients are small.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    several = shared if processes > 1 else {}
    started = []
    for rank in map(str, range(processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank} if several else {}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(file), str(folder)],
                env={**os.environ, **several, **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0] * processes, told
    found = {}
    for method in ("sft", "reinforce"):
        (last,) = (folder / method).glob("step-000002.safetensors")
        tensors = load_file(last)
        found |= {f"{method} {n}": z for n, z in tensors.items() if n.startswith("z:")}
    return found, [out for out, _ in told]
