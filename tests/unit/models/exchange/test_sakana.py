"""Checkpoints as the authors' programs write them, and the weights that they compose of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2agent.errors import ExpertFormatError
from t2agent.experts.expert import Expert
from t2agent.models.exchange import import_sakana
from t2agent.models.exchange.sakana import singular_value_scales
from t2agent.models.model import T2Model
from t2agent.svf.merge import merged_weight
from tests.architectures import Tokens, build
from tests.models import build_text_model
from tests.unit.models.exchange.policies import Combination, Policy


def compose(weight: Tensor, mask: Tensor) -> Tensor:
    """Their compose_new_params, in float64."""
    U, S, Vh = torch.linalg.svd(weight.double(), full_matrices=False)
    mm = mask.detach().double()
    return (U @ torch.diag_embed(S * mm) @ Vh) * (S.sum() / (S * mm).sum())


def check(model: T2Model, got: Expert, masks: dict[str, Tensor]) -> None:
    """Same W' within 1e-4, and nothing else is touched."""
    assert {f"{name}.weight" for name in got.z} == set(masks)
    for name, z in got.z.items():
        layer: Any = model.targets.layers[name]
        ours = merged_weight(layer, model.bases[name], z - 1)
        theirs = compose(layer.weight.detach(), masks[f"{name}.weight"])
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("max_mult", [1.0, 3.0])
def test_the_policy_as_a_list(name: str, max_mult: float, tmp_path: Path) -> None:
    model, _ = build(name)
    policy = Policy(model.model.state_dict(), max_mult)
    torch.save(policy.state_dict(), tmp_path / "policy_params.pt")
    got = import_sakana(tmp_path / "policy_params.pt", model, "theirs", description="As trained.")
    check(model, got, policy.masks())
    assert got.card.base_fingerprint == model.fingerprint
    assert got.card.description == "As trained."
    assert got.card.training["imported"]["format"] == "sakana"
    assert len(got.card.training["imported"]["sha256"]) == 64


@pytest.mark.parametrize("parameters", [True, False])
def test_the_older_files_by_name(parameters: bool, tmp_path: Path) -> None:
    model, _ = build("llama")
    policy = Policy(model.model.state_dict())
    params = policy.params if parameters else {k: p.detach() for k, p in policy.params.items()}
    torch.save(params, tmp_path / "learnable_params_latest.pt")
    check(model, import_sakana(tmp_path / "learnable_params_latest.pt", model, "t"), policy.masks())


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_a_few_shot_mixture(per_layer: bool, norm: bool, tmp_path: Path) -> None:
    model, _ = build("llama")
    mixed = Combination(
        [Policy(model.model.state_dict()) for _ in range(3)], per_layer=per_layer, norm=norm
    )
    torch.save(mixed.state_dict(), tmp_path / "policy_params.pt")
    got = import_sakana(tmp_path / "policy_params.pt", model, "theirs")
    check(model, got, mixed.masks())


def test_bfloat16_as_they_save_it(tmp_path: Path) -> None:
    model, _ = build("llama")
    policy = Policy(model.model.state_dict())
    params = {key: p.detach().bfloat16() for key, p in policy.params.items()}
    torch.save(params, tmp_path / "learnable_params.pt")
    got = import_sakana(tmp_path / "learnable_params.pt", model, "theirs")
    check(model, got, {key: torch.sigmoid(p.double()) for key, p in params.items()})


def test_a_base_model_in_bfloat16(tmp_path: Path) -> None:
    model = T2Model(build("llama")[0].model.bfloat16(), Tokens())
    policy = Policy(model.model.state_dict())
    torch.save(policy.state_dict(), tmp_path / "p.pt")
    got = import_sakana(tmp_path / "p.pt", model, "theirs")
    for name, z in got.z.items():
        s = torch.linalg.svdvals(model.targets.layers[name].weight.double())
        wanted = singular_value_scales(policy.masks()[f"{name}.weight"].detach(), s)
        torch.testing.assert_close(z.double(), wanted, atol=1e-5, rtol=1e-5)


def test_it_can_be_registered_and_used(tmp_path: Path) -> None:
    model = build_text_model()
    policy = Policy(model.model.state_dict())
    torch.save(policy.state_dict(), tmp_path / "p.pt")
    model.registry.register(import_sakana(tmp_path / "p.pt", model, "theirs"), persist=True)
    with model.adapted("theirs"):
        batch = model.tokenizer("What is seven", return_tensors="pt")
        adapted = model.model(**batch).logits
    for name in ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"):
        assert name in model.registry.get("theirs").z
    with torch.no_grad():
        for key, mask in policy.masks().items():
            parameter = model.model.get_parameter(key)
            parameter.copy_(compose(parameter, mask))
        composed = model.model(**batch).logits
    torch.testing.assert_close(adapted, composed, atol=1e-4, rtol=1e-3)


def test_the_formula_keeps_the_sum() -> None:
    s, z = torch.rand(9).sort(descending=True).values, torch.rand(9)
    scaled = singular_value_scales(z, s)
    assert float((s * scaled).sum()) == pytest.approx(float(s.sum()), rel=1e-6)
    torch.testing.assert_close(singular_value_scales(5 * z, s), scaled)
    torch.testing.assert_close(
        singular_value_scales(torch.full((9,), 0.3), s), torch.ones(9).double()
    )
    with pytest.raises(ExpertFormatError, match="cancel out"):
        singular_value_scales(torch.zeros(9), s)


def test_the_card_is_plain_json(tmp_path: Path) -> None:
    model, _ = build("llama")
    torch.save(Policy(model.model.state_dict()).params, tmp_path / "file.pt")
    got = import_sakana(tmp_path / "file.pt", model, "theirs")
    got.save(tmp_path / "expert")
    config = json.loads((tmp_path / "expert" / "expert_config.json").read_text())
    assert config["card"]["training"]["imported"]["layers"] == 6
    assert config["card"]["training"]["imported"]["file"] == "file.pt"
