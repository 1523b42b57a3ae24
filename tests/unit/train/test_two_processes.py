"""Two processes share the prompts of a step and end with one z, that of a single process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2agent.train import Example, ExampleTask, train_expert
from tests.models import build_text_model
from tests.processes import start


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
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    # In a process of its own: accelerate keeps the settings of a process for its whole life.
    command = [sys.executable, "-m", "tests.unit.train.test_two_processes"]
    root = Path(__file__).parents[3]
    subprocess.run([*command, str(tmp_path)], cwd=root, check=True, timeout=300)
    pair = tmp_path / "pair"
    pair.mkdir()
    processes = start([*command, str(pair)], 2, cwd=root)
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
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
