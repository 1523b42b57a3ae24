"""What is light stays light: measured in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from t2agent.experts.expert import Expert, ExpertCard

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "{'torch', 'transformers', 'sklearn', 'sentence_transformers', 'langchain_core', 'numpy', "
    "'huggingface_hub'}"
)


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_importing_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; t = time.perf_counter(); import t2agent; print(time.perf_counter() - t)"
    # The best of some: other processes are not our import's time.
    assert min(float(run(code)) for _ in range(4)) < 0.3


@pytest.mark.parametrize(
    "module",
    [
        "t2agent",
        "t2agent.errors",
        "t2agent.experts.card",
        "t2agent.paths",
        "t2agent.files",
        "t2agent.toolbox",
        "t2agent.train",
    ],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert run(f"import sys, {module}; print({HEAVY} & set(sys.modules))") == "set()"


def test_dispatching_loads_no_framework(t2agent_home: Path) -> None:
    """Neither PyTorch nor what fits: for the shipped experts that is done once for a machine."""
    heavy = "{'torch', 'transformers', 'sklearn', 'sentence_transformers', 'scipy', 'pandas'}"
    code = f"""
import sys
from t2agent import EmbeddingDispatcher, Registry
from t2agent.dispatch import Request
dispatcher = EmbeddingDispatcher(Registry("t2-nano"))
for images in (0, 1):
    dispatcher.dispatch([Request("What is 7 times 8?", images=images)])
print(sorted({heavy} & set(sys.modules)))
"""
    run(code)  # fits what this home does not have yet
    assert run(code) == "[]"


def test_answering_loads_neither_langchain_nor_what_fits() -> None:
    code = """
import sys, t2agent.engine.two_passes
print({'langchain_core', 'sklearn', 'sentence_transformers', 'datasets'} & set(sys.modules))
"""
    assert run(code) == "set()"


def test_cards_are_read_without_pytorch(t2agent_home: Path) -> None:
    expert = Expert(ExpertCard("math"), {"m": torch.ones(3)})
    expert.save(t2agent_home / "experts" / "org--base" / "math")
    code = """
import sys
from t2agent import Registry
registry = Registry("org/base")
print(registry.names(), registry.card("math").modality, len(registry.fingerprint))
print("torch" in sys.modules, registry.get("math").parameters, "torch" in sys.modules)
"""
    assert run(code).splitlines() == ["['math'] text 64", "False 3 True"]
