"""Adapters that are damaged, foreign, or more than a LoRA."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2agent.errors import ExpertFormatError, ExpertMismatchError
from t2agent.models.exchange import import_lora
from tests.architectures import build

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the Llama of the tests."""
    folder = tmp_path_factory.mktemp("adapter")
    config = peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(build("llama")[0].model, config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may ruin."""
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    return tmp_path


def alter(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def test_a_folder_without_an_adapter_is_told_as_that(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ExpertFormatError, match=f"it has no {CONFIG}"):
            import_lora(folder, build("llama")[0], "x", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": None}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa"),
        ({"r": 3}, "rank 2"),
        ({"r": None}, "None"),
        ({"r": True}, "True"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"alpha_pattern": [1]}, "no object"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "more than a module's name"),
        ({"alpha_pattern": {"up\\": 1}}, "no regular expression"),
        ({"alpha_pattern": {"up_proj": "x"}}, "lora_alpha"),
    ],
)
def test_configurations_that_cannot_be_used(
    adapter: Path, changes: dict[str, Any], message: str
) -> None:
    alter(adapter, **changes)
    with pytest.raises(ExpertFormatError, match=message):
        import_lora(adapter, build("llama")[0], "x", progress=False)


def _drop(tensors: dict[str, Tensor]) -> None:
    del tensors[min(tensors)]


def _nan(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors)][0, 0] = float("nan")


def _whole_numbers(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)].to(torch.int32)


def _magnitude(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors).replace("lora_A.weight", "lora_magnitude_vector")] = torch.ones(3)


def _flat(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)].flatten()


def _ranks(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)][:1].clone()


@pytest.mark.parametrize(
    "ruin", [_drop, _nan, _whole_numbers, _magnitude, _flat, _ranks, dict.clear]
)
def test_tensors_that_cannot_be_used(
    adapter: Path, ruin: Callable[[dict[str, Tensor]], None]
) -> None:
    tensors = load_file(adapter / WEIGHTS)
    ruin(tensors)
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(ExpertFormatError):
        import_lora(adapter, build("llama")[0], "x", progress=False)


def test_adapters_of_other_models(adapter: Path) -> None:
    alter(adapter, base_model_name_or_path="/home/somebody/their-model")
    with pytest.raises(ExpertMismatchError, match="their-model") as raised:
        import_lora(adapter, build("gpt2")[0], "x", progress=False)
    assert "somebody" not in str(raised.value)
    tensors = load_file(adapter / WEIGHTS)
    wider = {
        key: torch.cat([value, value], 0 if "lora_B" in key else 1)
        for key, value in tensors.items()
    }
    save_file(wider, adapter / WEIGHTS)
    with pytest.raises(ExpertMismatchError, match="but that of tiny-llama is 32 x 48"):
        import_lora(adapter, build("llama")[0], "x", progress=False)


@pytest.mark.parametrize("base", ["/", "\ud800", 3, {"a": 1}, "x" * 10**6, "..", None])
def test_the_base_that_is_named_may_be_anything(adapter: Path, base: Any) -> None:
    alter(adapter, base_model_name_or_path=base)
    found = import_lora(adapter, build("llama")[0], "x", progress=False)
    assert len(found.expert.card.training["imported"]["base"]) <= 200
    found.expert.save(adapter / "expert")


def test_files_that_are_not_there(adapter: Path) -> None:
    model, _ = build("llama")
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(ExpertFormatError, match="pickled"):
        import_lora(adapter, model, "x", progress=False)
    if hasattr(os, "mkfifo"):
        os.mkfifo(adapter / WEIGHTS)
        with pytest.raises(ExpertFormatError, match=WEIGHTS):
            import_lora(adapter, model, "x", progress=False)
    (adapter / CONFIG).unlink()
    for folder in (adapter, adapter / "nothing", adapter / "adapter_model.bin"):
        with pytest.raises(ExpertFormatError, match=CONFIG):
            import_lora(folder, model, "x", progress=False)


def test_the_hubs_cache_has_links(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    snapshot = tmp_path_factory.mktemp("snapshot")
    for name in (CONFIG, WEIGHTS):
        (snapshot / name).symlink_to(adapter / name)
    assert import_lora(snapshot, build("llama")[0], "x", progress=False).expert.z


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_damage_anywhere_is_a_typed_error_or_harmless(adapter: Path, name: str) -> None:
    model, _ = build("llama")
    data = (adapter / name).read_bytes()
    draw = random.Random(0)
    header = 8 + int.from_bytes(data[:8], "little") if name == WEIGHTS else len(data)
    refused = 0
    for turn in range(45):
        damaged = bytearray(data)
        if turn % 3 == 0:
            damaged = damaged[: draw.randrange(len(data))]
        else:
            damaged[draw.randrange(header)] ^= 1 << draw.randrange(8)
        (adapter / name).write_bytes(damaged)
        try:
            found = import_lora(adapter, model, "x", progress=False)
        except (ExpertFormatError, ExpertMismatchError):
            refused += 1
        else:
            assert all(bool(torch.isfinite(z).all()) for z in found.expert.z.values())
    assert refused > 20
