"""PEFT's layers in a base model: what they compute, how many values they have, no trace left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from t2agent.errors import ConfigError
from t2agent.models.generate import encode
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt
from t2agent.train import Example, TrainOptions
from t2agent.train.learner import Learner, Row
from t2agent.train.peft import KINDS, Adapted, PeftAdapter, load_adapter
from t2agent.train.setup import frozen_base, start_accelerator
from tests.models import build_text_model, build_tokenizer, build_vision_model, tiny_text_model
from tests.unit.tasks.sandbox.untouched import logits, same_base


def disturb(adapter: PeftAdapter) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in adapter.parameters.values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_and_wrapped_agree_and_are_what_peft_computes(kind: Any, tmp_path: Path) -> None:
    model = build_text_model()
    adapter = PeftAdapter(model, kind, None if kind in ("road", "ia3") else 2)
    before = logits(model)
    with adapter.wrapped():
        torch.testing.assert_close(logits(model), before)  # a fresh adapter changes nothing
    disturb(adapter)
    adapted = Adapted(model, adapter, {"adapter": kind, "rank": adapter.rank}, {})
    found = []
    for merged in (True, False):
        with adapted.active(merged=merged) as inside, inside.adapted(None):
            found.append(logits(model))
    assert not torch.allclose(found[0], before, atol=1e-2)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    adapted.save(tmp_path / "a")
    own = peft.PeftModel.from_pretrained(build_text_model().model, str(tmp_path / "a"))
    with torch.no_grad():
        theirs = own(**model.tokenizer("What is seven", return_tensors="pt")).logits
    torch.testing.assert_close(theirs, found[1])
    back = load_adapter(build_text_model(), tmp_path / "a")
    with back.active(merged=False):
        torch.testing.assert_close(logits(back.model), found[1])
    assert repr(back) == repr(adapted)


def test_conv1d_layers_and_biases() -> None:
    tokenizer = build_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=64)
    model = T2Model(GPT2LMHeadModel(config), tokenizer)
    check = same_base(model)
    with torch.no_grad():
        for layer in model.targets.layers.values():
            layer.bias.normal_()
    check = same_base(model)
    for kind, rank in (("lora", 2), ("ia3", None)):
        adapter = PeftAdapter(model, kind, rank)  # type: ignore[arg-type]
        disturb(adapter)
        found = []
        for context in (adapter.merged, adapter.wrapped):
            with context():
                found.append(logits(model))
        torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
        check()


@pytest.mark.parametrize("modules", ["all", "attention", "mlp", r"\.0\..*q_proj"])
def test_parameter_counts(modules: str) -> None:
    model = tiny_text_model()
    layers: dict[str, nn.Linear] = {
        name: layer  # type: ignore[misc]
        for name, layer in model.targets.layers.items()
        if modules == "all"
        or (modules == "attention" and "self_attn" in name)
        or (modules == "mlp" and "mlp" in name)
        or (modules[0] == "\\" and name.endswith("layers.0.self_attn.q_proj"))
    }
    assert layers
    for rank in (1, 4):
        wanted = sum(rank * (x.in_features + x.out_features) for x in layers.values())
        assert PeftAdapter(model, "lora", rank, modules=modules).free == wanted
    wanted = sum(x.in_features if "down" in n else x.out_features for n, x in layers.items())
    assert PeftAdapter(model, "ia3", modules=modules).free == wanted


def test_the_language_part_of_a_model_that_sees() -> None:
    model = build_vision_model()
    adapter = PeftAdapter(model, "lora", 1)
    assert {name.split(".lora_")[0] for name in adapter.parameters} == set(model.targets.layers)


def test_weights_that_are_not_finite_are_an_error_and_the_base_comes_back() -> None:
    model = build_text_model()
    check = same_base(model)
    adapter = PeftAdapter(model, "lora", 1)
    with torch.no_grad():
        for value in adapter.parameters.values():
            value.fill_(float("inf"))
    with pytest.raises(ConfigError, match="lower learning_rate"), adapter.merged():
        pass
    check()


@pytest.mark.parametrize(("kind", "rank"), [("lora", 2), ("ia3", None)])
def test_gradient(kind: Any, rank: int | None) -> None:
    """Against one row at a time through PEFT's layers, and KL to the model without them."""
    model = build_text_model()
    options = TrainOptions(kl=0.3, mixed_precision="no")
    example, rows = Example("Hi", "x"), [Row(0, (20, 21, 22), 1.5, 2), Row(0, (30,), -1.0, 1)]
    with frozen_base(model.model):
        adapter = PeftAdapter(model, kind, rank)
        disturb(adapter)
        total = torch.zeros(())
        for row in rows:
            inputs = encode(model, [Prompt.of(example)])
            states = slice(inputs["input_ids"].shape[1] - 1, -1)
            tokens = torch.tensor([row.tokens])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            with torch.no_grad():
                base = model.model(**inputs).logits[:, states].log_softmax(-1)
            with adapter.wrapped():
                log_probs = model.model(**inputs).logits[:, states].log_softmax(-1)
            chosen = log_probs.gather(-1, tokens[..., None]).sum()
            kl = (log_probs.exp() * (log_probs - base)).sum()
            total = total - row.weight * chosen + row.count * options.kl * kl
        wanted = torch.autograd.grad(total / 4, list(adapter.parameters.values()))
        learner = Learner(model, adapter, options, 8, start_accelerator(model, options))
        sums = learner.backward([example], rows, 4)
    assert sums.kl > 0
    scale = max(float(gradient.abs().max()) for gradient in wanted)
    for gradient, value in zip(wanted, adapter.parameters.values(), strict=True):
        torch.testing.assert_close(value.grad, gradient, atol=2e-4 * scale, rtol=2e-3)


@pytest.mark.parametrize(("kind", "rank"), [("lora", 2), ("ia3", None)])
def test_a_base_model_in_bfloat16(kind: Any, rank: int | None) -> None:
    model = T2Model(build_text_model().model.to(torch.bfloat16), build_tokenizer())
    check = same_base(model)
    before = logits(model)
    adapter = PeftAdapter(model, kind, rank)
    disturb(adapter)
    found = []
    for context in (adapter.merged, adapter.wrapped):
        with context():
            found.append(logits(model))
    check()
    assert {value.dtype for value in adapter.parameters.values()} == {torch.float32}
    assert found[0].dtype == torch.bfloat16
    apart = (found[0] - found[1]).abs().mean()
    assert apart < 0.2 * (found[0] - before).abs().mean()


def test_a_model_that_holds_adapters_already() -> None:
    hf = build_text_model().model
    model = T2Model(hf, build_tokenizer())
    hf.peft_config = {}
    with pytest.raises(ConfigError, match="merge_and_unload"):
        PeftAdapter(model, "lora", 1)
