"""Training in several processes is training in one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2agent.paths import bundled
from t2agent.train.metrics import METRICS, read_rows
from tests.processes import start

WEIGHTS = "model.safetensors"

# Both methods in one process each: starting one takes longer than these steps.
PROGRAM = """
import sys
from pathlib import Path
from t2agent.cli import main

file, base, runs = sys.argv[1:]
settings = [
    "prompts=7", "samples=4", "max_tokens=6", "validation=3", "validate_every=1", "patience=0",
    "kl=0.1", "mixed_precision=no", "learning_rate=0.002",
]
options = [part for setting in settings for part in ("--set", setting)]
for method in ("sft", "reinforce"):
    run = ["--checkpoint", f"{runs}/{method}", "--steps", "2", "--anyway", "--reward", "number"]
    named = ["-n", f"{method}-{Path(runs).name}", "--model", base]
    try:
        main(["train", file, *named, "--method", method, *run, *options])
    except SystemExit as done:
        if done.code:
            raise
"""


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    # 7 prompts a step of 8 examples and 3 to validate on: the shares of two processes are not
    # equal, and prompts come twice.
    file = tmp_path / "sums.jsonl"
    lines = [{"prompt": f"What is {i} plus {i % 4}?", "answer": f"{i + i % 4}"} for i in range(8)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    base = double(tmp_path / "base")
    one, two = tmp_path / "one", tmp_path / "two"
    started = [
        process
        for folder, processes in ((one, 1), (two, 2))
        for process in start(
            [sys.executable, "-c", PROGRAM, str(file), str(base), str(folder)],
            processes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    ]
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    # Of several, only the first tells of the result.
    assert [out.count("Saved in") for out, _ in told] == [2, 2, 0]
    assert told[2][0] == ""
    for method in ("sft", "reinforce"):
        alone, together = (last_z(folder / method) for folder in (one, two))
        assert alone.keys() == together.keys()
        for name, z in alone.items():
            assert bool((z != 1).any())
            torch.testing.assert_close(together[name], z, rtol=0, atol=1e-6)
        # Adam hardly sees how large a gradient is: its norm and the loss tell.
        rows = [read_rows(folder / method / METRICS, 2) for folder in (one, two)]
        for apart, same in zip(*rows, strict=True):
            for figure in ("loss", "kl", "grad_norm", "reward", "tokens", "val"):
                expected = apart[figure]
                assert same[figure] == (expected and pytest.approx(expected, rel=1e-4, abs=1e-7))


def double(folder: Path) -> Path:
    """t2-nano in float64. In float32 the order of sums moves components of the gradient by 1e-9,
    and where those are hardly larger, Adam makes several 1e-6 of it.
    """
    source = bundled("experts") / "t2-nano" / "base"
    shutil.copytree(source, folder)
    weights = {name: value.double() for name, value in load_file(source / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float64"}))
    return folder


def last_z(run: Path) -> dict[str, torch.Tensor]:
    """Of the second step, without the best one and Adam's means."""
    tensors = load_file(run / "step-000002.safetensors")
    return {name: value for name, value in tensors.items() if name.startswith("z:")}
