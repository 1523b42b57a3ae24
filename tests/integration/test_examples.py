"""Each example runs as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from t2agent.bundle import bundled

ROOT = Path(__file__).resolve().parents[2]
needs_nano = pytest.mark.skipif(
    not (bundled("experts") / "t2-nano" / "base").is_dir(), reason="t2-nano is not trained yet"
)


def example(name: str, *args: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *args],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_nano
def test_chat():
    printed = example("01_chat.py")

    assert "33" in printed
    assert "[2, 4, 7, 9]" in printed
    assert "expert math:" in printed


@needs_nano
def test_images():
    printed = example("02_images.py")

    assert "answer: " in printed
    assert "read" in printed


@needs_nano
def test_an_image_of_the_users_own(tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 200), "white").save(tmp_path / "own.png")

    assert "see for yourself" in example("02_images.py", str(tmp_path / "own.png"))


@needs_nano
def test_a_custom_expert():
    printed = example("03_custom_expert.py")

    assert "bare-sums" in printed.split("known experts:")[1].splitlines()[0]
    assert "22" in printed.split("bare-sums: ")[-1]


def test_a_real_model_or_its_stand_in():
    printed = example("04_real_model.py", "nobody/has-this-model")

    assert "STAND-IN" in printed
    assert "Qwen2ForCausalLM" in printed
    assert "restored bit for bit: True" in printed
    changes = [float(line.split(":")[0].split()[-1]) for line in printed.splitlines()
               if line.startswith("largest change")]  # fmt: skip
    assert changes[0] == 0.0
    assert min(changes[1:]) > 0.0
