"""Merged checkpoints in stock transformers, and the base model after the export."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
)

from t2agent.errors import ConfigError, ExpertNotFoundError
from t2agent.experts.expert import Expert, Mixture
from t2agent.models.exchange import export_merged
from t2agent.models.model import T2Model
from tests.architectures import TEXT, VISION, build, expert
from tests.models import build_text_model, build_tokenizer, build_vision_model
from tests.odd_architectures import ODD
from tests.unit.svf.test_layer import Int8Linear
from tests.unit.tasks.sandbox.untouched import same_base

SEEING = {*VISION, "mllama", "blip2"}


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**batch).logits
    return out


def auto(name: str) -> type[AutoModelForCausalLM]:
    if name == "t5":
        return AutoModelForSeq2SeqLM
    return AutoModelForImageTextToText if name in SEEING else AutoModelForCausalLM


@pytest.mark.parametrize("name", [*TEXT, *VISION, *ODD])
def test_stock_transformers_computes_the_same(name: str, tmp_path: Path) -> None:
    model, batch = build(name)
    model.processor = build_tokenizer()
    base = logits(model.model, batch)
    one = expert(model, "one", 1)
    with model.adapted(one):
        wanted = logits(model.model, batch)
    config = model.model.config.to_dict()

    report = export_merged(model, one, tmp_path / "out", progress=False)

    assert set(report.changed) == set(one.z)
    back = auto(name).from_pretrained(tmp_path / "out").eval()
    assert type(back) is type(model.model)
    error = (logits(back, batch) - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5
    assert (wanted - base).abs().max() > 1e-3 * base.abs().max()
    assert torch.equal(logits(model.model, batch), base)
    assert model.model.config.to_dict() == config


def test_automodel_and_what_belongs_to_a_checkpoint(tmp_path: Path) -> None:
    model = build_text_model()
    check = same_base(model)
    one = expert(model, "one", 1)
    export_merged(model, one, tmp_path, name="mine", progress=False)
    check()
    headless = AutoModel.from_pretrained(tmp_path).eval()
    text = "What is seven"
    back = AutoTokenizer.from_pretrained(tmp_path)
    batch = dict(back(text, return_tensors="pt"))
    with model.adapted(one), torch.no_grad():
        wanted = model.model.model(**batch).last_hidden_state
    with torch.no_grad():
        got = headless(**batch).last_hidden_state
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    assert back.chat_template == model.tokenizer.chat_template
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == model.tokenizer.eos_token_id
    card = (tmp_path / "README.md").read_text()
    assert "# mine" in card
    assert "base_model: tiny-text\n" in card
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1  # safetensors' own is for the owner only


def test_a_model_that_sees_keeps_its_processor(tmp_path: Path) -> None:
    model = build_vision_model()
    export_merged(model, expert(model, "one", 1), tmp_path, progress=False)
    AutoProcessor.from_pretrained(tmp_path, backend="pil")
    again = T2Model.from_pretrained(tmp_path)
    assert again.modalities == {"text", "image"}
    assert again.fingerprint != model.fingerprint


def test_t2_nano(tmp_path: Path) -> None:
    model = T2Model.from_pretrained("t2-nano")
    export_merged(model, "math", tmp_path, progress=False)
    back = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    batch = dict(model.tokenizer("What is 7 times 3 plus 12?", return_tensors="pt"))
    with model.adapted("math"):
        wanted = logits(model.model, batch)
    torch.testing.assert_close(logits(back, batch), wanted, atol=1e-4, rtol=1e-4)
    assert back.lm_head.weight is back.model.text_model.embed_tokens.weight  # still tied
    T2Model.from_pretrained(tmp_path)
    for file in tmp_path.glob("*.json"):
        assert str(tmp_path) not in file.read_text()
        assert "/" + "/".join(Path(__file__).parts[1:3]) not in file.read_text()


def test_mixtures_by_layer(tmp_path: Path) -> None:
    model, batch = build("llama")
    model.processor = build_tokenizer()
    for seed, name in enumerate("ab"):
        model.registry.register(Expert(expert(model, name, 1).card, expert(model, name, seed).z))
    what = Mixture({"a": 0.7}, layers={"model.layers.1": {"a": 0.0, "b": 1.3}})
    with model.adapted(what):
        wanted = logits(model.model, batch)
    export_merged(model, what, tmp_path, progress=False)
    back = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(back, batch), wanted, atol=1e-5, rtol=1e-4)


def test_a_base_model_in_bfloat16(tmp_path: Path) -> None:
    model = build_text_model()
    narrow = T2Model(model.model.bfloat16(), model.tokenizer)
    check = same_base(narrow)
    one = expert(narrow, "one", 1)
    report = export_merged(narrow, one, tmp_path, progress=False)
    check()
    assert report.dtype == "bfloat16"
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert back.dtype == torch.bfloat16
    with narrow.merged(one):
        for name, value in narrow.model.state_dict().items():
            assert torch.equal(value, back.state_dict()[name]), name


def test_offloaded_weights_are_refused(tmp_path: Path) -> None:
    model, _ = build("llama")
    one = expert(model, "one", 1)
    accelerate.cpu_offload(model.model, execution_device=torch.device("cpu"))
    offloaded = T2Model(model.model, build_tokenizer())
    with pytest.raises(ConfigError, match="format 'lora'"):
        export_merged(offloaded, one, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_quantised_weights_are_refused_and_make_a_lora(tmp_path: Path) -> None:
    model, batch = build("llama")
    mlp = model.model.model.layers[0].mlp
    mlp.up_proj = Int8Linear(mlp.up_proj)
    quantised = T2Model(model.model, build_tokenizer())
    one = expert(quantised, "one", 1)
    with pytest.raises(ConfigError, match="format 'lora'"):
        export_merged(quantised, one, tmp_path / "out", progress=False)
    with quantised.adapted(one):
        wanted = logits(quantised.model, batch)
    quantised.export_lora(one, tmp_path / "out", rank=32, progress=False)
    plain = nn.Linear(32, 48, bias=False)
    plain.weight.data = mlp.up_proj.weight.float() * mlp.up_proj.scale
    mlp.up_proj = plain
    got = logits(PeftModel.from_pretrained(quantised.model, str(tmp_path / "out")), batch)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_an_offloaded_layer_that_is_not_adapted_is_refused(tmp_path: Path) -> None:
    model, _ = build("llama")
    accelerate.cpu_offload(model.model.lm_head, execution_device=torch.device("cpu"))
    part = T2Model(model.model, build_tokenizer())
    with pytest.raises(ConfigError, match="lm_head"):
        export_merged(part, expert(part, "one", 1), tmp_path / "out", progress=False)


def test_a_shared_weight_is_refused(tmp_path: Path) -> None:
    hf = build("llama")[0].model
    hf.model.layers[1].mlp.up_proj.weight = hf.model.layers[0].mlp.up_proj.weight
    model = T2Model(hf, build_tokenizer())
    with pytest.raises(ConfigError, match="holds once"):
        export_merged(model, expert(model, "one", 1), tmp_path / "out", progress=False)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_text_model()
    check = same_base(model)
    with pytest.raises(ExpertNotFoundError):
        export_merged(model, "nobody", tmp_path / "out", progress=False)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("the generation config is invalid")

    monkeypatch.setattr(model.processor, "save_pretrained", fail)
    with pytest.raises(ConfigError, match="generation config"):
        export_merged(model, expert(model, "one", 1), tmp_path / "out", progress=False)
    monkeypatch.undo()
    check()
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_the_card_load_it(tmp_path: Path) -> None:
    model = T2Model.from_pretrained("t2-nano", dtype="float32")
    export_merged(model, "math", tmp_path, progress=False)
    [_, commands, _] = re.split("```(?:python)?", (tmp_path / "README.md").read_text())
    known: dict[str, Any] = {}
    exec(commands.replace("path/of/this/folder", str(tmp_path)), known)
    batch = dict(model.tokenizer("What is 7 times 3?", return_tensors="pt"))
    with torch.no_grad(), model.merged("math"):
        wanted = model.model(**batch).logits
    with torch.no_grad():
        torch.testing.assert_close(known["model"](**batch).logits, wanted, atol=1e-4, rtol=1e-4)
