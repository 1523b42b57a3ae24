"""A tiny base model on disk, and the command line run in this process."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging
from typer.testing import CliRunner, Result

from t2agent.cli.app import app
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from tests.models import build_text_model, build_vision_model

Run = Callable[..., Result]


def save(model: T2Model, folder: Path) -> Path:
    """Write a base model as the checkpoint that `from_pretrained` reads."""
    model.model.save_pretrained(folder)
    model.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny text model."""
    return str(save(build_text_model(), tmp_path_factory.mktemp("bases") / "tiny-text"))


@pytest.fixture(scope="session")
def tiny_vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny vision-language model."""
    return str(save(build_vision_model(), tmp_path_factory.mktemp("bases") / "tiny-vision"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line; the result has exit_code, stdout and stderr."""
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # as `t2agent.cli.main` does for its own process

    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin, prog_name="t2agent")

    yield invoke
    if bars:
        logging.enable_progress_bar()


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """Run with ``--json``: standard output must be one JSON value and nothing else."""

    def invoke(*args: str, exit_code: int = 0, stdin: str | None = None) -> Any:
        result = run(*args, "--json", stdin=stdin)
        assert result.exit_code == exit_code, result.stderr
        return json.loads(result.stdout)

    return invoke


@pytest.fixture(scope="session")
def expert_folders(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two experts for the tiny text model, saved: name -> folder."""
    model = T2Model.from_pretrained(tiny)
    generator = torch.Generator().manual_seed(0)
    themes = ("cats", "dogs", "rain", "snow", "tea", "love", "war")
    examples = {
        "sums": [f"What is {n} plus {n + 1}?" for n in range(12)],
        "poems": [f"Write a poem about {n}." for n in themes],
    }
    folders = {}
    for name, requests in examples.items():
        blank = Expert.identity(model, name)
        z = {key: one + 0.5 * torch.randn(one.shape, generator=generator)
             for key, one in blank.z.items()}  # fmt: skip
        card = type(blank.card).from_dict(
            {**blank.card.to_dict(), "examples": requests, "description": f"All about {name}."}
        )
        folders[name] = tmp_path_factory.mktemp("experts") / name
        Expert(card, z).save(folders[name])
    return folders
