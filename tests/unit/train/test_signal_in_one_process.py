"""Rewards of several processes are those of one step: a signal in one of them moves the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from t2agent.train import Example, ExampleTask, train_expert
from tests.models import build_text_model


def train(folder: Path) -> None:
    examples = [Example(f"greet {i}", "abcde" if i % 2 else "xy") for i in range(40)]
    second = os.environ["RANK"] == "1"

    def there_only(reply: str, example: Example) -> float:
        return sum(letter in "aeiou" for letter in reply) / 9 if second else 0.0

    train_expert(
        build_text_model(),
        ExampleTask("t", examples, there_only),
        method="reinforce",
        steps=1,
        prompts=8,
        patience=0,
        validate_every=2,
        max_tokens=3,
        progress=False,
        mixed_precision="no",
        negatives=None,
        checkpoint=folder,
    )


@pytest.mark.slow
def test_a_signal_in_the_second_process_alone_moves_the_first(tmp_path: Path) -> None:
    # In processes of their own: accelerate keeps the settings of a process for its whole life.
    command = [sys.executable, "-m", "tests.unit.train.test_signal_in_one_process"]
    root = Path(__file__).parents[3]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {
        **os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path)],
            env={**world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=root,
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    [file] = tmp_path.glob("step-*.safetensors")  # the first writes it
    z = [value for name, value in load_file(file).items() if name.startswith("z:")]
    assert z
    assert any(bool((value != 1).any()) for value in z)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
