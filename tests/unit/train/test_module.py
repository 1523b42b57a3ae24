"""z as a module that other trainers train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.train import AdaptedModule
from tests.models import build_text_model, tiny_text_model

TEXTS = ["the quick brown fox jumps over the lazy dog", "answer: thirty-three"]
QUIET: dict[str, Any] = {
    "report_to": [], "disable_tqdm": True, "logging_steps": 1, "use_cpu": True, "bf16": False,
    "per_device_train_batch_size": 4, "learning_rate": 0.05,
}  # fmt: skip


def logits(hf: Any, model: T2Model) -> Tensor:
    inputs = model.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        found: Tensor = hf(**inputs).logits
    return found


def some_expert(model: T2Model) -> Expert:
    ones = Expert.identity(model, "some")
    draw = torch.Generator().manual_seed(3)
    z = {name: one + 0.3 * torch.randn(one.shape, generator=draw) for name, one in ones.z.items()}
    return Expert(ones.card, z)


def weights(model: T2Model) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def test_it_begins_as_the_base_model_and_has_the_parameters_of_z_alone() -> None:
    model = tiny_text_model()
    module = AdaptedModule.of(model, "some", modules="attention", directions=20, examples=("hi",))
    free = [value for value in module.parameters() if value.requires_grad]
    assert len(free) == 8
    assert sum(value.numel() for value in free) == 8 * 20
    assert len(module.state_dict()) == 8
    torch.testing.assert_close(logits(module, model), logits(model.model, model))
    assert not any(value.requires_grad for value in model.model.parameters())
    expert = module.to_expert(scores={"val": 0.5})
    assert all(bool((z == 1).all()) for z in expert.z.values())
    assert {name: len(z) for name, z in expert.z.items()} == {
        name: size for name, size in model.shapes.items() if "attn" in name
    }
    assert expert.card.examples == ("hi",)
    assert expert.card.scores == {"val": 0.5}
    assert expert.card.training["parameters"] == 160
    with pytest.raises(ConfigError, match="dtype"):
        module.to(torch.bfloat16)


def test_it_computes_what_the_adapted_model_does_with_the_same_gradients() -> None:
    model = tiny_text_model()
    module = AdaptedModule.of(model, "some", start=some_expert(model))
    expert = module.to_expert()
    z = {name: value.requires_grad_() for name, value in expert.z.items()}
    inputs = model.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with model.adapted(Expert(expert.card, z)):
        expected = model.model(**inputs).logits
        expected.square().mean().backward()
    assert not torch.allclose(expected, logits(model.model, model), atol=1e-2)
    module.train()
    for checkpointing in (False, True):
        if checkpointing:
            module.activation_checkpointing_enable()
        module.zero_grad()
        found = module(**inputs, use_cache=False).logits
        found.square().mean().backward()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                own = z[name.removesuffix(".t2agent_delta")].grad
                torch.testing.assert_close(parameter.grad, own, rtol=1e-3, atol=1e-6)
    # The base model's own contexts are apart from it.
    with model.adapted(None):
        torch.testing.assert_close(logits(module, model), expected.detach(), rtol=1e-4, atol=1e-5)


def test_trl_sft(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    model = build_text_model()
    before = weights(model)
    module = AdaptedModule.of(model, "fox", examples=["say it"])
    args = trl.SFTConfig(output_dir=str(tmp_path / "runs"), max_steps=3, save_steps=2, **QUIET)
    data = datasets.Dataset.from_list([{"prompt": "say it: ", "completion": TEXTS[0]}] * 12)
    trainer = trl.SFTTrainer(module, args, train_dataset=data, processing_class=model.tokenizer)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] - 0.1
    trained = logits(module, model)
    unchanged(model, before)

    trainer.save_model(str(tmp_path / "expert"))
    assert registered(model, tmp_path / "expert", trained) == "fox"

    # What was saved after two steps is what training goes on from.
    again = AdaptedModule.of(build_text_model(), "fox")
    trainer = trl.SFTTrainer(again, args, train_dataset=data, processing_class=model.tokenizer)
    trainer.train(resume_from_checkpoint=str(tmp_path / "runs" / "checkpoint-2"))
    torch.testing.assert_close(logits(again, model), trained, rtol=1e-4, atol=1e-5)


def test_trl_grpo(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    model = build_text_model()
    before = weights(model)
    module = AdaptedModule.of(model, "vowels")

    def vowels(completions: list[str], **_columns: Any) -> list[float]:
        return [sum(letter in "aeiou" for letter in one) / (len(one) + 1) for one in completions]

    args = trl.GRPOConfig(
        output_dir=str(tmp_path / "runs"), max_steps=2, save_strategy="no", num_generations=4,
        max_completion_length=6, **QUIET,
    )  # fmt: skip
    data = datasets.Dataset.from_list([{"prompt": f"say {k}"} for k in range(8)])
    trainer = trl.GRPOTrainer(
        module, vowels, args, train_dataset=data, processing_class=model.tokenizer
    )
    trainer.train()
    trained = logits(module, model)
    assert not torch.allclose(trained, logits(model.model, model), atol=1e-3)
    unchanged(model, before)
    module.save_pretrained(tmp_path / "expert")
    assert registered(model, tmp_path / "expert", trained) == "vowels"


def unchanged(model: T2Model, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def registered(model: T2Model, folder: Path, expected: Tensor) -> str:
    """Register a folder; the name of its expert, which computes what was trained."""
    name = model.registry.register(folder).name
    with model.adapted(name):
        torch.testing.assert_close(logits(model.model, model), expected, rtol=1e-4, atol=1e-4)
    return name
