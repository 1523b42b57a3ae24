"""Exported adapters in stock PEFT: what they compute, and the error that they say they have."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from t2agent.experts.expert import Expert, Mixture
from t2agent.models.exchange import LoraExport, export_lora
from t2agent.models.exchange.factors import DEFAULT_RANK
from t2agent.models.model import T2Model
from t2agent.train import Example, ExampleTask, train_expert
from tests.architectures import TEXT, VISION, Tokens, build, expert
from tests.models import build_text_model, build_tokenizer, build_vision_model
from tests.odd_architectures import ODD

EXACT = 1e-4  # relative, float32
TAKEN = [name for name in (*TEXT, *VISION, *ODD) if name != "mamba"]


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**batch).logits
    return out


def adapted(model: T2Model, what: Any, batch: dict[str, Tensor]) -> Tensor:
    with model.adapted(what):
        return logits(model.model, batch)


def in_peft(base: nn.Module, folder: Path, batch: dict[str, Tensor]) -> Tensor:
    return logits(peft.PeftModel.from_pretrained(base, str(folder)).eval(), batch)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def top(model: T2Model, name: str, seed: int, k: int) -> Expert:
    """An expert that moves the first k directions of each layer."""
    full = expert(model, name, seed)
    z = {n: torch.cat([v[:k], torch.ones(len(v) - k)]) for n, v in full.z.items()}
    return Expert(full.card, z)


def change(model: T2Model, name: str, delta: Tensor) -> Tensor:
    """U diag(delta s) V^T of a layer, from torch.linalg.svd in float64."""
    layer: Any = model.targets.layers[name]
    weight = layer.weight.detach().double()
    U, s, Vh = torch.linalg.svd(
        weight.mT if isinstance(layer, Conv1D) else weight, full_matrices=False
    )
    return (U * (delta.double() * s)) @ Vh


def measure(model: T2Model, what: Expert, report: LoraExport) -> tuple[dict[str, float], float]:
    """The error of each layer and of all, from the files that were written."""
    config = json.loads((report.folder / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == report.rank
    tensors = load_file(report.folder / "adapter_model.safetensors")
    errors, squares, total = {}, 0.0, 0.0
    for name, z in what.z.items():
        wanted = change(model, name, z - 1)
        b, a = (tensors[f"base_model.model.{name}.lora_{each}.weight"].double() for each in "BA")
        left, norm = float((wanted - b @ a).norm()), float(wanted.norm())
        errors[name] = left / norm
        squares, total = squares + left**2, total + norm**2
    return errors, (squares / total) ** 0.5


@pytest.mark.parametrize("name", TAKEN)
def test_an_expert_of_few_directions_is_exact_in_peft(name: str, tmp_path: Path) -> None:
    model, batch = build(name)
    fresh = copy.deepcopy(model.model)
    base = logits(model.model, batch)
    one = top(model, "one", 1, 3)
    wanted = adapted(model, one, batch)

    report = one.to_lora(model, tmp_path / "out", progress=False)

    assert relative(wanted, base) > 1e-3
    assert report.rank == report.needed == 3
    assert report.exact
    assert report.error < 1e-6
    if model.model.config.is_encoder_decoder and Version(peft.__version__) < Version("0.21.2"):
        pytest.skip("PEFT before 0.21.2 opens no encoder-decoder of transformers 5.18 or newer")
    got = in_peft(fresh, tmp_path / "out", batch)
    assert relative(got, wanted) < EXACT
    assert float((got - wanted).norm() / (wanted - base).norm()) < 1e-3
    assert torch.equal(logits(model.model, batch), base)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "llava"])
def test_all_directions_and_biases(name: str, tmp_path: Path) -> None:
    targets = "all+vision" if name == "llava" else "all"
    model, batch = build(name, targets=targets)
    fresh = copy.deepcopy(model.model)
    one = expert(model, "one", 1)
    report = export_lora(model, one, tmp_path, rank=max(model.shapes.values()), progress=False)
    assert report.exact
    assert relative(in_peft(fresh, tmp_path, batch), adapted(model, one, batch)) < EXACT


@pytest.mark.parametrize("name", ["llama", "gpt2", "llava"])
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_the_error_of_an_approximation_is_the_one_measured(
    name: str, rank: int, tmp_path: Path
) -> None:
    model, _ = build(name)
    one = expert(model, "one", 1)
    report = export_lora(model, one, tmp_path, rank=rank, progress=False)
    errors, error = measure(model, one, report)
    assert not report.exact
    assert report.error == pytest.approx(error, rel=1e-4)
    assert {each.name for each in report.layers} == set(one.z)
    for each in report.layers:
        assert each.error == pytest.approx(errors[each.name], rel=1e-4, abs=1e-6)
        assert each.kept == min(rank, each.moved)
        # and it stands on the card
        row = f"| `{each.name}` | {each.moved} | {each.kept} | {each.error:.3e} |"
        assert row in (tmp_path / "README.md").read_text()
    kept = json.loads((tmp_path / "t2agent_export.json").read_text())
    assert kept["error"] == report.error
    assert kept["layers"] == report.to_dict()["layers"]


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_a_narrow_file_says_what_rounding_costs(dtype: Any, tmp_path: Path) -> None:
    model, _ = build("llama")
    one = top(model, "one", 1, 3)
    report = model.export_lora(one, tmp_path, dtype=dtype, progress=False)
    errors, error = measure(model, one, report)
    assert report.exact  # no direction is left out
    assert report.error == pytest.approx(error, rel=1e-2)
    assert 1e-5 < error < 1e-2
    assert all(e.error == pytest.approx(errors[e.name], rel=1e-2) for e in report.layers)
    tensors = load_file(tmp_path / "adapter_model.safetensors").values()
    assert {str(t.dtype) for t in tensors} == {str(dtype).replace("bf", "torch.bf")}


def test_a_base_model_in_bfloat16(tmp_path: Path) -> None:
    model = T2Model(build("llama")[0].model.bfloat16(), Tokens())
    one = expert(model, "one", 1)
    report = export_lora(model, one, tmp_path, rank=4, progress=False)
    errors, error = measure(model, one, report)
    assert report.error == pytest.approx(error, rel=1e-3)
    assert all(e.error == pytest.approx(errors[e.name], rel=1e-3) for e in report.layers)


def test_mixtures_by_layer(tmp_path: Path) -> None:
    model, batch = build("llama")
    fresh = copy.deepcopy(model.model)
    for seed, name in enumerate("ab"):
        model.registry.register(top(model, name, seed, 3))
    what = Mixture({"a": 0.7, "b": -0.4}, layers={"model.layers.1": {"a": 0.0, "b": 1.3}})
    report = export_lora(model, what, tmp_path, name="both", progress=False)
    assert report.rank == 3
    assert report.mixture == what
    assert relative(in_peft(fresh, tmp_path, batch), adapted(model, what, batch)) < EXACT
    card = (tmp_path / "README.md").read_text()
    assert "# both" in card
    assert "0.7 a + -0.4 b, with other weights in 1 parts" in card


def test_an_expert_of_some_layers_names_these_alone(tmp_path: Path) -> None:
    model, batch = build("llama")
    fresh = copy.deepcopy(model.model)
    full = expert(model, "one", 1)
    z = {n: (v if "layers.1.mlp" in n else torch.ones_like(v)) for n, v in full.z.items()}
    some = Expert(full.card, z)
    export_lora(model, some, tmp_path, rank=32, progress=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(n for n in z if "layers.1.mlp" in n)
    assert relative(in_peft(fresh, tmp_path, batch), adapted(model, some, batch)) < EXACT


@pytest.mark.parametrize("what", [None, Mixture(), "identity"])
def test_what_changes_nothing(what: Any, tmp_path: Path) -> None:
    model, batch = build("llama")
    fresh = copy.deepcopy(model.model)
    what = Expert.identity(model, "same") if what == "identity" else what
    report = export_lora(model, what, tmp_path, progress=False)
    assert (report.rank, report.needed, report.error, report.exact) == (1, 0, 0.0, True)
    assert torch.equal(in_peft(fresh, tmp_path, batch), logits(model.model, batch))


def test_training_few_directions_makes_an_exact_adapter(tmp_path: Path) -> None:
    model = build_text_model()
    fresh = copy.deepcopy(model.model)
    task = ExampleTask("echo", [Example(f"Say {n}", str(n)) for n in range(40)], reward="exact")
    trained = train_expert(
        model, task, method="sft", steps=3, directions=4, name="few", prompts=4, validation=2,
        progress=False, checkpoint=tmp_path / "run", learning_rate=0.2,
    )  # fmt: skip
    report = model.export_lora(trained, tmp_path / "out", rank=4, progress=False)
    assert report.exact
    assert report.error < 1e-6
    batch = dict(model.tokenizer("What is seven", return_tensors="pt"))
    wanted = adapted(model, trained, batch)
    assert not torch.equal(wanted, logits(model.model, batch))
    assert relative(in_peft(fresh, tmp_path / "out", batch), wanted) < EXACT


def test_t2_nano(tmp_path: Path) -> None:
    model = T2Model.from_pretrained("t2-nano", dtype="float32")
    fresh = copy.deepcopy(model.model)
    batch = dict(model.tokenizer("What is 7 times 3 plus 12?", return_tensors="pt"))
    wanted = adapted(model, "math", batch)
    report = export_lora(model, "math", tmp_path, rank=256, progress=False)
    assert report.exact
    assert relative(in_peft(fresh, tmp_path, batch), wanted) < EXACT
    assert (tmp_path / "README.md").read_text().count("\nlicense: apache-2.0\n") == 1
    half = export_lora(model, "math", tmp_path, progress=False)  # replaces the first
    assert half.rank == DEFAULT_RANK
    _, error = measure(model, model.registry.get("math"), half)
    assert half.error == pytest.approx(error, rel=1e-3)


def test_the_commands_of_the_card_load_it(tmp_path: Path) -> None:
    small = tmp_path / "base"
    build_text_model().model.save_pretrained(small)
    build_tokenizer().save_pretrained(small)
    for place in ("t2-nano", str(small)):
        model = T2Model.from_pretrained(place, dtype="float32")
        batch = dict(model.tokenizer("What is 7 times 3?", return_tensors="pt"))
        one = top(model, "one", 1, 2)
        out = tmp_path / "out"
        export_lora(model, one, out, progress=False)
        [_, commands, _] = re.split("```(?:python)?", (out / "README.md").read_text())
        commands = commands.replace("path/of/this/folder", str(out))
        known: dict[str, Any] = {}
        exec(commands.replace("path/of/base", str(small)), known)
        wanted = adapted(model, one, batch)
        assert relative(logits(known["model"].eval(), batch), wanted) < EXACT


def test_images_through_peft(tmp_path: Path) -> None:
    model, batch = build("idefics3")
    fresh = copy.deepcopy(model.model)
    one = top(model, "one", 1, 2)
    export_lora(model, one, tmp_path, rank=7, progress=False)  # more than is needed: zeros
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 7
    assert relative(in_peft(fresh, tmp_path, batch), adapted(model, one, batch)) < EXACT
    assert "image-text-to-text" not in (tmp_path / "README.md").read_text()  # no image processor
    seeing = build_vision_model()
    seeing.export_lora(top(seeing, "one", 1, 2), tmp_path / "seeing", progress=False)
    assert "pipeline_tag: image-text-to-text\n" in (tmp_path / "seeing/README.md").read_text()


def test_the_path_of_the_base_model_is_not_told(tmp_path: Path) -> None:
    model = T2Model(build("llama")[0].model, Tokens(), name=str(tmp_path / "models" / "mine"))
    model.export_lora(expert(model, "one", 1), tmp_path / "out", progress=False)
    for file in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    assert peft.PeftConfig.from_pretrained(str(tmp_path / "out")).base_model_name_or_path == "mine"


def test_inside_merged_the_base_weights_are_exported(tmp_path: Path) -> None:
    model, _ = build("llama")
    one, two = top(model, "one", 1, 3), expert(model, "two", 2)
    model.export_lora(one, tmp_path / "outside", progress=False)
    with model.merged(two):
        model.export_lora(one, tmp_path / "inside", progress=False)
    first, second = (
        (tmp_path / place / "adapter_model.safetensors").read_bytes()
        for place in ("outside", "inside")
    )
    assert first == second


def test_a_weight_in_two_modules_is_adapted_in_each(tmp_path: Path) -> None:
    model, batch = build("llama")
    first, second = (each.mlp.up_proj for each in model.model.model.layers)
    second.weight = first.weight
    model = T2Model(model.model, Tokens())
    one = top(model, "one", 1, 3)
    wanted = adapted(model, one, batch)
    model.export_lora(one, tmp_path, progress=False)
    assert relative(in_peft(model.model, tmp_path, batch), wanted) < EXACT


def test_offloaded_weights(tmp_path: Path) -> None:
    import accelerate

    model, batch = build("llama")
    fresh = copy.deepcopy(model.model)
    one = top(model, "one", 1, 3)
    wanted = adapted(model, one, batch)
    accelerate.disk_offload(model.model, tmp_path / "disk", execution_device=torch.device("cpu"))
    T2Model(model.model, Tokens()).export_lora(one, tmp_path / "out", progress=False)
    assert relative(in_peft(fresh, tmp_path / "out", batch), wanted) < EXACT
