"""Checkpoints as the authors' programs write them, and the weights that they compose of them.

The classes here do what `policy/base.py` and `policy/weighted_combination.py` of
github.com/SakanaAI/self-adaptive-llms do, in float32 instead of bfloat16.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2agent.errors import ExpertFormatError, ExpertMismatchError
from t2agent.expert import Expert
from t2agent.importing import import_sakana
from t2agent.importing.sakana import singular_value_scales
from t2agent.model import T2Model
from t2agent.svf.merge import merged_weight
from tests.models import build_text_model
from tests.unit.architectures import Tokens, build


class Policy(nn.Module):
    """Their parameters: one vector for each weight with "mlp" in its name."""

    def __init__(self, base: dict[str, Tensor], max_mult: float = 1.0) -> None:
        super().__init__()
        self.max_mult = max_mult
        self.params = {
            key: nn.Parameter(torch.randn(min(value.shape)))
            for key, value in base.items()
            if "mlp" in key
        }
        self.learnable_params_module_list = nn.ParameterList(list(self.params.values()))

    def masks(self) -> dict[str, Tensor]:
        return {key: torch.sigmoid(p) * self.max_mult for key, p in self.params.items()}


class Combination(nn.Module):
    """Their few-shot mixture of some policies, one coefficient for each or for each layer too."""

    def __init__(self, policies: list[Policy], per_layer: bool, norm: bool) -> None:
        super().__init__()
        keys = list(policies[0].params)
        c = torch.rand(len(policies), len(keys) if per_layer else 1)
        self.adaptive_weights = nn.Parameter(c)
        self.norm, self.keys = norm, keys
        for key in keys:
            for i, policy in enumerate(policies):
                self.register_buffer(
                    f"weights_{i}_k_{key.replace('.', '_')}", policy.masks()[key].detach()
                )

    def masks(self) -> dict[str, Tensor]:
        c = self.adaptive_weights.detach()
        c = (c / c.sum(0) if self.norm else c).expand(-1, len(self.keys))
        return {
            key: sum(
                c[k, i] * getattr(self, f"weights_{k}_k_{key.replace('.', '_')}")
                for k in range(len(c))
            )
            for i, key in enumerate(self.keys)
        }


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


def saved(state: object, tmp_path: Path, **options: Any) -> Path:
    torch.save(state, tmp_path / "file.pt", **options)
    return tmp_path / "file.pt"


def params(model: T2Model) -> dict[str, Tensor]:
    return {key: p.detach() for key, p in Policy(model.model.state_dict()).params.items()}


def test_files_for_other_models(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = params(model)
    first = next(iter(good))
    some = {key: p for key, p in good.items() if "layers.0" in key}
    foreign = {f"language_model.{key}": p for key, p in good.items()}
    short = {**good, first: good[first][:-1]}
    square = {**good, first: good[first][:, None]}
    listed = {f"learnable_params_module_list.{i}": p for i, p in enumerate(some.values())}
    gap = {f"learnable_params_module_list.{i + 1}": p for i, p in enumerate(good.values())}
    for state in (some, foreign, short, square, listed, gap):
        with pytest.raises(ExpertMismatchError, match="base model that it was trained for"):
            import_sakana(saved(state, tmp_path), model, "x")
    attention, _ = build("llama", targets="attention")
    with pytest.raises(ExpertMismatchError, match="targets 'all' or 'mlp'"):
        import_sakana(saved(good, tmp_path), attention, "x")


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = params(model)
    first = next(iter(good))
    mixed = Combination([Policy(model.model.state_dict())], per_layer=True, norm=False).state_dict()
    bad: list[object] = [
        {}, [], 3, torch.ones(3), [good],
        {**good, first: "text"},
        {**good, 5: good[first]},
        {**good, first: good[first].long()},
        {**good, first: torch.full_like(good[first], float("nan"))},
        {**good, first: torch.full_like(good[first], -float("inf")), "x": good[first].to_sparse()},
        {**good, first: torch.ones(1).expand(10**9)},
        {**mixed, "adaptive_weights": torch.ones(3, 1)},
        {**mixed, "adaptive_weights": torch.ones(1)},
        {**mixed, "other": torch.ones(1)},
        {k: v for k, v in mixed.items() if k == "adaptive_weights"},
        {k: (v[:0] if k == "adaptive_weights" else v) for k, v in mixed.items()},
        {k: (0 * v if k == "adaptive_weights" else v) for k, v in mixed.items()},
    ]  # fmt: skip
    for state in bad:
        with pytest.raises((ExpertFormatError, ExpertMismatchError)):
            import_sakana(saved(state, tmp_path), model, "x")


def test_code_is_not_run(tmp_path: Path) -> None:
    model, _ = build("llama")
    marker = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(marker), "w"))

    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(ExpertFormatError, match=r"refuses it|is not a usable"):
            import_sakana(saved({"a": Code()}, tmp_path, **options), model, "x")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": Code()}))
    with pytest.raises(ExpertFormatError):
        import_sakana(tmp_path / "plain.pt", model, "x")
    assert not marker.exists()


def test_files_that_are_not_there_or_too_large(tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.raises(ExpertFormatError, match="no such file"):
        import_sakana(tmp_path / "nothing.pt", model, "x")
    with pytest.raises(ExpertFormatError, match="no such file"):
        import_sakana(tmp_path, model, "x")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(ExpertFormatError, match="no such file"):
            import_sakana(tmp_path / "pipe.pt", model, "x")
    with open(tmp_path / "huge.pt", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ExpertFormatError, match="at most"):
        import_sakana(tmp_path / "huge.pt", model, "x")


def test_archives_that_lie_about_their_size(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = saved(params(model), tmp_path)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for part in source.infolist():
            out.writestr(part.filename, source.read(part))
    with pytest.raises(ExpertFormatError, match="compressed"):
        import_sakana(packed, model, "x")
    # A storage that is said to be longer than its data: torch would read what lies behind.
    longer = tmp_path / "longer.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(longer, "w") as out:
        for part in source.infolist():
            data = source.read(part)
            out.writestr(part.filename, data[:4] if "/data/" in part.filename else data)
    with pytest.raises(ExpertFormatError):
        import_sakana(longer, model, "x")


def test_damage_anywhere_is_a_typed_error_or_harmless(tmp_path: Path) -> None:
    model, _ = build("llama")
    data = saved(params(model), tmp_path).read_bytes()
    draw = random.Random(0)
    target = tmp_path / "damaged.pt"
    refused = 0
    for turn in range(300):
        damaged = bytearray(data)
        if turn % 3 == 0:
            damaged = damaged[: draw.randrange(len(data))]
        else:
            for _ in range(draw.choice((1, 1, 4, 64))):
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        target.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = import_sakana(target, model, "x")
        except (ExpertFormatError, ExpertMismatchError):
            refused += 1
        else:  # a changed number is a number all the same
            assert all(bool(torch.isfinite(z).all()) for z in got.z.values())
    assert refused > 150


def test_the_card_is_plain_json(tmp_path: Path) -> None:
    model, _ = build("llama")
    got = import_sakana(saved(params(model), tmp_path), model, "theirs")
    got.save(tmp_path / "expert")
    config = json.loads((tmp_path / "expert" / "expert_config.json").read_text())
    assert config["card"]["training"]["imported"]["layers"] == 6
    assert config["card"]["training"]["imported"]["file"] == "file.pt"
