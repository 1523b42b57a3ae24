"""A process killed while it registers or pulls an expert leaves the old one or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("action", "swap", "start"),
    [
        ("register", "exchange", "replace"),
        ("register", "renames", "replace"),
        ("pull", "exchange", "replace"),
        ("pull", "renames", "replace"),
        ("pull", "exchange", "first"),
    ],
)
def test_a_kill_leaves_the_old_expert_or_the_new(
    tmp_path: Path, action: str, swap: str, start: str
) -> None:
    script = ROOT / "tests" / "killed_registry.py"
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), action, swap, start],
        env={**os.environ, **environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    left = Counter(run.stdout.splitlines())
    before = "old" if start == "replace" else "nothing"
    assert left.keys() <= {before, "new", "new done"}, left
    assert left["new done"] == 1
    assert left[before]
    assert left["new"]
    assert left[before] + left["new"] >= 50
