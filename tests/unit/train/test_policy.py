"""The gradient of the loss, against the plainest way to write it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from t2agent.errors import TrainingError
from t2agent.experts.expert import Expert
from t2agent.models.generate import encode
from t2agent.models.model import T2Model
from t2agent.models.precision import has_bfloat16_units
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import JSON_BY_SCHEMA
from t2agent.train import Example, TrainOptions
from t2agent.train.adapters import SvfAdapter
from t2agent.train.learner import Learner, reply_seeds
from t2agent.train.setup import frozen_base, step_of
from tests.models import build_text_model, tiny_text_model, tiny_vision_model
from tests.unit.train import policies
from tests.unit.train.policies import ROWS, learner_of, moved

IMAGE = Image.linear_gradient("L").convert("RGB")
EXAMPLES = {
    "text": policies.EXAMPLES,
    "image": [
        Example("What is it?", "a line", IMAGE),
        Example("Is it red?", "no", IMAGE.rotate(90)),
    ],
}


def make(model: T2Model, options: TrainOptions) -> Learner:
    return learner_of(model, moved(model), options)


def expert_of(learner: Learner) -> Expert:
    assert isinstance(learner.adapter, SvfAdapter)
    return learner.adapter.expert


def plain_loss(learner: Learner, examples: list[Example]) -> Tensor:
    """One row at a time, without padding, caches or merged weights."""
    model, total = learner.model, torch.zeros(())
    for row in ROWS:
        inputs = encode(model, [Prompt.of(examples[row.prompt])])
        length = inputs["input_ids"].shape[1]
        tokens = torch.tensor([row.tokens])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        states = slice(length - 1, -1)
        with torch.no_grad():
            base = model.model(**inputs).logits[:, states].log_softmax(-1)
        with model.adapted(expert_of(learner)):
            log_probs = model.model(**inputs).logits[:, states].log_softmax(-1)
        chosen = log_probs.gather(-1, tokens[..., None]).sum()
        kl = (log_probs.exp() * (log_probs - base)).sum()
        total = total - row.weight * chosen + row.count * learner.options.kl * kl
    return total / 10


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize("rows", [1, 128])
def test_gradient(kind: str, merges: bool, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SvfAdapter, "forms", lambda *_, **__: merges)
    model = tiny_text_model() if kind == "text" else tiny_vision_model()
    trained = make(model, TrainOptions(kl=0.3, rows=rows, mixed_precision="no"))
    with frozen_base(model.model):
        plain_loss(trained, EXAMPLES[kind]).backward()
        wanted = {name: z.grad.clone() for name, z in trained.adapter.parameters.items()}
        for z in trained.adapter.parameters.values():
            z.grad = None
        sums = trained.backward(EXAMPLES[kind], ROWS, 10)
    assert sums.kl > 0
    scale = max(float(g.abs().max()) for g in wanted.values())
    for name, z in trained.adapter.parameters.items():
        torch.testing.assert_close(z.grad, wanted[name], atol=2e-4 * scale, rtol=2e-3)


def test_temperature_divides_the_logits() -> None:
    model = tiny_text_model()
    cold = make(model, TrainOptions(temperature=0.5, mixed_precision="no")).backward(
        EXAMPLES["text"], ROWS, 1
    )
    warm = make(model, TrainOptions(temperature=1.0, mixed_precision="no")).backward(
        EXAMPLES["text"], ROWS, 1
    )
    assert cold.kl > 1.5 * warm.kl


def test_the_base_is_not_run_without_a_kl_term() -> None:
    sums = make(tiny_text_model(), TrainOptions(kl=0.0)).backward(EXAMPLES["text"], ROWS, 1)
    assert sums.kl is None
    assert sums.loss


def test_replies_depend_on_z_and_seed_only() -> None:
    trained = make(build_text_model(), TrainOptions(rows=4))
    options = {"samples": 3, "temperature": 1.0}

    def draw(seed: int) -> list[tuple[int, ...]]:
        seeds = reply_seeds(EXAMPLES["text"], 3, seed)
        replies = trained.replies(EXAMPLES["text"], seeds=seeds, **options)
        assert [len(group) for group in replies] == [3, 3]
        return [generation.token_ids for group in replies for generation in group]

    first = draw(1)
    assert draw(1) == first
    assert draw(2) != first
    with torch.no_grad():
        next(iter(trained.adapter.parameters.values())).mul_(3)
    assert draw(1) != first


def test_logits_that_are_not_finite_are_an_error_not_a_crash() -> None:
    trained = make(build_text_model(), TrainOptions())
    with torch.no_grad():
        for z in trained.adapter.parameters.values():
            z.fill_(1e38)
    with pytest.raises(TrainingError, match="not finite"):
        trained.replies(EXAMPLES["text"], samples=2, temperature=1.0)


def test_penalties_of_the_checkpoint_do_not_touch_the_sampled_policy() -> None:
    trained = make(build_text_model(), TrainOptions())
    draw = {"samples": 4, "temperature": 1.0, "seeds": reply_seeds(EXAMPLES["text"], 4, 3)}
    plain = trained.replies(EXAMPLES["text"], **draw)
    config = trained.model.model.generation_config
    config.repetition_penalty = 50.0
    config.suppress_tokens = list(range(300))
    assert trained.replies(EXAMPLES["text"], **draw) == plain
    assert trained.model.model.generation_config is config


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_mixed_precision(precision: Any) -> None:
    model = tiny_text_model()
    exact = make(model, TrainOptions(mixed_precision="no")).backward(EXAMPLES["text"], ROWS, 1)
    trained = make(model, TrainOptions(mixed_precision=precision))
    mixed = trained.backward(EXAMPLES["text"], ROWS, 1)
    assert (mixed != exact) is (precision == "bf16" or has_bfloat16_units("cpu"))
    assert mixed.kl == pytest.approx(exact.kl, rel=0.1)
    for z in trained.adapter.parameters.values():
        assert z.grad is not None
        assert z.grad.dtype == torch.float32
        assert bool(z.grad.isfinite().all())


def test_the_base_is_frozen_inside_and_as_before_after() -> None:
    hf = build_text_model().model
    some = next(iter(hf.parameters()))
    some.requires_grad_(True)
    hf.model.layers[0].train()
    with contextlib.suppress(KeyError), frozen_base(hf):
        inside = [any(p.requires_grad for p in hf.parameters()), hf.model.layers[0].training]
        raise KeyError
    assert inside == [False, False]
    assert [p.requires_grad for p in hf.parameters()].count(True) == 1
    assert some.requires_grad
    assert hf.model.layers[0].training
    assert not hf.model.layers[1].training


SPAM = "Is this spam or no spam?\n\n"
GOOD, BAD = "I loved each page of it.", "It broke on the second day."
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Tells the time"}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock", "arguments": {}}]}
NOON = {"role": "tool", "name": "clock", "content": "noon"}
WISH = {"role": "system", "content": JSON_BY_SCHEMA + "{}"}
USER = {"role": "user", "content": "What time is it?"}


@pytest.mark.parametrize(
    ("examples", "step"),
    [
        ([Example("What is 3 + 4?", "7")], "text"),
        ([Example("What time is it?", tools=[CLOCK], calls=[{"name": "clock"}])], "calls"),
        ([Example(messages=[USER, CALL, NOON], tools=[CLOCK], answer="It is noon.")], "results"),
        ([Example(messages=[WISH, USER], answer="{}")], "json"),
        ([Example(f"Is this {a} or {b}?\n\n{GOOD}", a) for a, b in ("ab", "cd", "ef")], "labels"),
        ([Example(SPAM + text, "no spam") for text in (GOOD, BAD)], "text"),  # its own labels
        ([Example(GOOD + " Sad or glad?", "4"), Example(BAD + " Old or new?", "5")], "text"),
    ],
)
def test_the_step_that_examples_are_at(examples: list[Example], step: str) -> None:
    assert step_of(examples) == step
