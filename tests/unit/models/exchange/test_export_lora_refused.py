"""Exports to LoRA that are refused: with a typed error, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from t2agent.errors import ConfigError, ExpertMismatchError, ExpertNotFoundError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.models.exchange import export_lora
from t2agent.models.model import T2Model
from tests.architectures import Tokens, build, expert


@pytest.mark.parametrize("rank", [0, -1, True, 2.0, 33, 10**12])
def test_unusable_ranks(rank: Any, tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.raises(ConfigError, match="from 1 to 32"):
        export_lora(model, expert(model, "one", 1), tmp_path / "out", rank=rank, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["int8", torch.float64, None, "float", []])
def test_unusable_dtypes(dtype: Any, tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.raises(ConfigError, match="'bfloat16', 'float16'"):
        export_lora(model, expert(model, "one", 1), tmp_path / "out", dtype=dtype, progress=False)


def test_a_change_that_float16_cannot_hold(tmp_path: Path) -> None:
    model, _ = build("llama")
    z = {name: torch.full((size,), 1e12) for name, size in model.shapes.items()}
    huge = Expert(ExpertCard("huge"), z)
    with pytest.raises(ConfigError, match="too large"):
        model.export_lora(huge, tmp_path / "out", dtype="float16", progress=False)
    assert not (tmp_path / "out").exists()


def test_experts_that_are_not_there_or_not_for_this_model(tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.raises(ExpertNotFoundError):
        export_lora(model, "nobody", tmp_path / "out", progress=False)
    foreign = expert(build("gpt2")[0], "foreign", 1)
    with pytest.raises(ExpertMismatchError):
        model.export_lora(foreign, tmp_path / "out", progress=False)


def test_layers_that_peft_does_not_take(tmp_path: Path) -> None:
    model, _ = build("mamba")
    with pytest.raises(ConfigError, match="format 'merged'"):
        model.export_lora(expert(model, "one", 1), tmp_path / "out", progress=False)


def test_a_module_in_two_places(tmp_path: Path) -> None:
    hf = build("llama")[0].model
    hf.model.layers[1].mlp.up_proj = hf.model.layers[0].mlp.up_proj
    model = T2Model(hf, Tokens())
    with pytest.raises(ConfigError, match="one module in two places"):
        model.export_lora(expert(model, "one", 1), tmp_path / "out", progress=False)
