"""Training in several processes is training in one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2agent.paths import bundled
from t2agent.train import Example, ExampleTask, train_expert
from t2agent.train.metrics import METRICS, read_rows
from tests.imported import Imported, ranks
from tests.models import build_text_model

WEIGHTS = "model.safetensors"

# Both methods in one process each.
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


def test_two_processes_train_what_one_does(libraries: Imported, tmp_path: Path) -> None:
    # 7 prompts a step of 8 examples and 3 to validate on: the shares of two processes are not
    # equal, and prompts come twice.
    file = tmp_path / "sums.jsonl"
    lines = [{"prompt": f"What is {i} plus {i % 4}?", "answer": f"{i + i % 4}"} for i in range(8)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    base = double(tmp_path / "base")
    one, two = tmp_path / "one", tmp_path / "two"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [str(program), str(file), str(base)]
    told = libraries.together(
        [([*command, str(one)], {}), *(([*command, str(two)], rank) for rank in ranks(2))]
    )
    assert [one.returncode for one in told] == [0, 0, 0], told
    # Of several, only the first tells of the result.
    assert [one.stdout.count("Saved in") for one in told] == [2, 2, 0]
    assert told[2].stdout == ""
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


def train(folder: Path) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    examples = [Example(f"greet {i}", "abcde" if i % 2 else "xy") for i in range(40)]
    rank = os.environ.get("RANK", "alone")
    options: dict[str, Any] = {
        "prompts": 8, "patience": 0, "validate_every": 2, "max_tokens": 3, "progress": False,
        "mixed_precision": "no", "negatives": None, "checkpoint": folder / "run",
    }  # fmt: skip
    expert = train_expert(
        build_text_model(), ExampleTask("t", examples), method="sft", steps=3, **options
    )
    save_file(dict(expert.z), folder / f"z-{rank}.safetensors")

    # The first process keeps what is compared, and the second alone is rewarded.
    def there_only(reply: str, example: Example) -> float:
        return 0.0 if rank == "0" else sum(letter in "aeiou" for letter in reply) / 9

    options["checkpoint"] = folder / "signal"
    task = ExampleTask("t", examples, there_only)
    train_expert(build_text_model(), task, method="reinforce", steps=1, **options)
    run = load_file(folder / "signal" / "step-000001.safetensors")
    save_file(
        {name: value for name, value in run.items() if name[:2] == "z:"},
        folder / f"signal-{rank}.safetensors",
    )


@pytest.mark.slow
def test_two_processes_train_as_one(libraries: Imported, tmp_path: Path) -> None:
    # In processes of their own: accelerate keeps the settings of a process for its whole life.
    pair = tmp_path / "pair"
    pair.mkdir()
    done = libraries.together(
        [([__file__, str(tmp_path)], {}), *(([__file__, str(pair)], rank) for rank in ranks(2))]
    )
    assert [one.returncode for one in done] == [0, 0, 0], done
    alone = load_file(tmp_path / "z-alone.safetensors")
    first, second = (load_file(pair / f"z-{rank}.safetensors") for rank in range(2))
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=0)
        assert not bool((value == 1).all())
    # A signal in one process alone moves both.
    first, second = (load_file(pair / f"signal-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(bool((value != 1).any()) for value in first.values())
    assert sum(1 for _ in (pair / "run").glob("step-*.safetensors")) == 1


if __name__ == "__main__":
    train(Path(sys.argv[1]))
