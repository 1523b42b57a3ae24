"""PEFT's adapters as experts: the share that is kept, and folders that are refused."""

from __future__ import annotations

import copy
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
from t2agent.exporting import export_lora
from t2agent.importing import import_lora
from t2agent.model import T2Model
from tests.unit.architectures import Tokens, build, expert

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the Llama of the tests."""
    folder = tmp_path_factory.mktemp("adapter")
    trained(build("llama")[0], folder, r=2, target_modules=["up_proj", "down_proj"])
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
