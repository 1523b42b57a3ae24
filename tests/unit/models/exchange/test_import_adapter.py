"""PEFT's adapters as experts: the share that is kept, and folders that are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from t2agent.models.exchange import export_lora, import_lora
from t2agent.models.model import T2Model
from tests.architectures import Tokens, build, expert

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def trained(model: T2Model, folder: Path, **options: Any) -> peft.PeftModel:
    """A LoRA as a user's training would leave it: random, and saved by PEFT."""
    config = peft.LoraConfig(init_lora_weights=False, **options)
    made = peft.get_peft_model(copy.deepcopy(model.model), config)
    made.save_pretrained(str(folder))
    return made


def change(made: peft.PeftModel, name: str) -> Tensor:
    """What PEFT adds to a weight, (out, in), float64."""
    layer: Any = made.base_model.model.get_submodule(name)
    delta = layer.get_delta_weight("default").detach().double()
    return delta.mT if layer.fan_in_fan_out else delta


def nearest(model: T2Model, name: str, delta: Tensor) -> Tensor:
    """u_i^T dW v_i / s_i by torch.linalg.svd."""
    layer: Any = model.targets.layers[name]
    weight = layer.weight.detach().double()
    turned = weight.shape != delta.shape or type(layer).__name__ == "Conv1D"
    U, s, Vh = torch.linalg.svd(weight.mT if turned else weight, full_matrices=False)
    return (U.mT @ delta @ Vh.mT).diagonal() / s


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"up_proj": 2, "c_fc": 2},
        "alpha_pattern": {"^model.layers.0.mlp.down_proj": 3, "layers.1.mlp.down_proj": 5},
    },
    "both": {"r": 3, "lora_alpha": 5, "use_rslora": True, "alpha_pattern": {"down_proj": 9}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "llava"])
def test_the_projection_is_of_what_peft_adds(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model, _ = build(name)
    modules = {"gpt2": ["c_attn", "c_fc"]}.get(name, ["q_proj", "up_proj", "down_proj"])
    made = trained(
        model, tmp_path, target_modules=modules, fan_in_fan_out=name == "gpt2", **options
    )
    found = import_lora(tmp_path, model, "theirs", progress=False)
    kept = total = 0.0
    shares = {each.name: each for each in found.layers}
    for layer, share in shares.items():
        delta = change(made, layer)
        assert share.norm == pytest.approx(float(delta.norm()), rel=1e-5)
        total += float(delta.norm()) ** 2
        assert share.adapted == (layer in model.shapes)
        if not share.adapted:  # Llava's vision tower has layers of these names, too
            assert "vision" in layer
            assert share.share == 0
            continue
        wanted = nearest(model, layer, delta)
        torch.testing.assert_close(found.expert.z[layer].double() - 1, wanted, atol=1e-3, rtol=1e-3)
        s = model.bases[layer].s.double()
        own = float((wanted * s).norm()) ** 2
        assert share.share == pytest.approx(own / float(delta.norm()) ** 2, rel=1e-3)
        kept += own
    assert found.share == pytest.approx(kept / total, rel=1e-3)
    assert 0 < found.share < 0.2  # a random change has little to do with the weight's directions
    assert set(found.expert.z) == {n for n in shares if n in model.shapes}
    on_card = found.expert.card.training["imported"]
    assert on_card["share_kept"] == found.share
    assert on_card["layers"] == {each.name: each.share for each in found.layers}
    assert on_card["format"] == "peft"


@pytest.mark.parametrize("name", ["llama", "gpt2", "llava"])
def test_an_exported_expert_comes_back_whole(name: str, tmp_path: Path) -> None:
    model, _ = build(name)
    one = expert(model, "one", 1)
    export_lora(model, one, tmp_path, rank=max(model.shapes.values()), progress=False)
    found = import_lora(tmp_path, model, "back", description="Back again.", progress=False)
    assert found.share == pytest.approx(1, abs=1e-6)
    for layer, z in one.z.items():
        torch.testing.assert_close(found.expert.z[layer], z, atol=1e-4, rtol=1e-4)
    assert found.expert.card.description == "Back again."
    assert found.expert.card.base_fingerprint == model.fingerprint
    model.registry.register(found.expert)


def test_a_base_model_in_bfloat16(tmp_path: Path) -> None:
    model = T2Model(build("llama")[0].model.bfloat16(), Tokens())
    one = expert(model, "one", 1)
    export_lora(model, one, tmp_path, rank=32, progress=False)
    found = import_lora(tmp_path, model, "back", progress=False)
    assert found.share == pytest.approx(1, abs=1e-6)
    for layer, z in one.z.items():
        torch.testing.assert_close(found.expert.z[layer], z, atol=1e-3, rtol=1e-3)


def test_what_is_not_adapted_counts_as_lost(tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.warns(UserWarning, match="embedding"):
        trained(model, tmp_path, r=2, target_modules=["lm_head", "embed_tokens", "up_proj"])
    found = import_lora(tmp_path, model, "part", progress=False)
    lost = {each.name: each.norm for each in found.layers if not each.adapted}
    assert set(lost) == {"lm_head", "model.embed_tokens"}
    assert all(norm > 0 for norm in lost.values())
    assert found.to_dict()["lost"] == sorted(lost)
    without = sum(e.share * e.norm**2 for e in found.layers) / sum(
        e.norm**2 for e in found.layers if e.adapted
    )
    assert found.share < without


def test_an_adapter_that_does_nothing(tmp_path: Path) -> None:
    model, _ = build("llama")
    made = peft.get_peft_model(
        copy.deepcopy(model.model), peft.LoraConfig(r=2, target_modules=["up_proj"])
    )
    made.save_pretrained(str(tmp_path))
    found = import_lora(tmp_path, model, "fresh", progress=False)
    assert found.share == 1
    assert all(torch.equal(z, torch.ones_like(z)) for z in found.expert.z.values())
