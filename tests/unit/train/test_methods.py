"""REINFORCE and next-token training learn what they are rewarded for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from t2agent.errors import NoSignalWarning, TrainingError
from t2agent.models.calls import wanted_tokens
from t2agent.models.decoding import end_token
from t2agent.models.generate import generate
from t2agent.models.likelihood import answer_tokens, log_likelihoods
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.train import Example, ExampleTask, TrainOptions, train_expert
from t2agent.train.reinforce import advantages
from tests.models import build_text_model, build_vision_model, tiny_text_model
from tests.unit.replies.families import FAMILIES, model_with

FAST: dict[str, Any] = {
    "progress": False, "max_tokens": 3, "prompts": 8, "samples": 8, "mixed_precision": "no",
}  # fmt: skip


def vowel_first(reply: str, example: Example) -> float:
    return 1.0 if any(letter in "aeiou" for letter in reply[:2]) else -1.0


def bandit(images: bool = False, reward: Any = vowel_first) -> ExampleTask:
    def image(i: int) -> Image.Image | None:
        return Image.new("RGB", (64, 64), (i, 99, 9 * i % 256)) if images else None

    examples = [Example(f"say something {i}", "", image(i)) for i in range(60)]
    return ExampleTask("bandit", examples, reward)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("baseline", ["group", "none"])
def test_reinforce_learns_a_bandit(baseline: str) -> None:
    model, task = build_text_model(), bandit()
    expert = train_expert(model, task, method="reinforce", steps=10, baseline=baseline, **FAST)
    assert expert.card.scores["val_base"] < 0.0
    assert expert.card.scores["val"] > 0.9
    # What was learnt holds for requests that were not seen.
    tests = task.split("test")
    prompts = [Prompt.of(example) for example in tests]
    with model.adapted(expert):
        replies = generate(model, prompts, GenerationOptions(max_tokens=3))
    rewards = [task.reward(r.text, e) for r, e in zip(replies, tests, strict=True)]
    assert sum(rewards) / len(rewards) > 0.0


def test_reinforce_learns_with_images() -> None:
    expert = train_expert(
        build_vision_model(), bandit(images=True), method="reinforce", steps=20, **FAST
    )
    assert expert.card.modality == "image"
    assert expert.card.scores["val"] > max(0.9, expert.card.scores["val_base"])


def test_more_kl_stays_nearer_to_the_base(tmp_path: Path) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    # The reward never saturates, so that both runs have the same steps.
    task = bandit(reward=lambda reply, example: 0.9 * vowel_first(reply, example))
    for folder, kl in ((far, 0.001), (near, 5.0)):
        train_expert(
            build_text_model(),
            task,
            method="reinforce",
            steps=8,
            kl=kl,
            patience=0,
            checkpoint=folder,
            **FAST,
        )
    assert metrics(near)[-1]["kl"] < 0.5 * metrics(far)[-1]["kl"]
    assert metrics(near)[1]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_sft_raises_the_probability_of_the_answers(tmp_path: Path) -> None:
    model = build_text_model()
    task = ExampleTask("hello", [Example(f"greet {i}", "the dog") for i in range(30)])
    expert = train_expert(
        model, task, method="sft", steps=30, prompts=8, patience=0, checkpoint=tmp_path,
        progress=False, max_tokens=8, learning_rate=0.05, mixed_precision="no",
    )  # fmt: skip
    rows = metrics(tmp_path)
    assert rows[-1]["loss"] < 0.5 * rows[1]["loss"]
    assert {row["reward"] for row in rows} == {None}
    assert expert.card.scores["val"] == 1.0
    assert expert.card.training["method"] == "sft"


def test_sft_loss_is_the_mean_negative_log_probability(tmp_path: Path) -> None:
    model = build_text_model()
    # One example in the training split, so that the first step's loss is known.
    task = ExampleTask("one", [Example("greet me", "the dog"), Example("greet you", "the fox")])
    (example,) = task.split("train")
    train_expert(
        model,
        task,
        method="sft",
        steps=1,
        prompts=1,
        checkpoint=tmp_path,
        progress=False,
        max_tokens=4,
        mixed_precision="no",
    )
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": example.prompt}], add_generation_prompt=True, tokenize=False
    )
    start = model.tokenizer(prompt, return_tensors="pt").input_ids
    answer = model.tokenizer(example.answer, return_tensors="pt").input_ids
    ids = torch.cat([start, answer, torch.tensor([[model.tokenizer.eos_token_id]])], dim=1)
    with torch.no_grad():
        log_probs = model.model(input_ids=ids).logits[0, start.shape[1] - 1 : -1].log_softmax(-1)
    wanted = -log_probs.gather(-1, ids[0, start.shape[1] :, None]).mean()
    assert metrics(tmp_path)[1]["loss"] == pytest.approx(float(wanted), rel=1e-4)


def test_answers_hold_no_control_tokens_but_their_end() -> None:
    model: T2Model = tiny_text_model()
    ids = answer_tokens(model, "a <|im_end|> b <image>")
    special = set(model.tokenizer.all_special_ids)
    assert [i for i in ids if i in special] == [model.tokenizer.eos_token_id]
    assert ids[-1] == end_token(model)


def test_group_advantages_leave_the_reply_out() -> None:
    group = advantages([1.0, 1.0, -1.0], TrainOptions())
    assert group == [1.0, 1.0, -2.0]
    assert advantages([0.1, 0.1, 0.1, 0.1], TrainOptions()) == [0.0] * 4  # 0.1 thrice is not 0.3
    assert advantages([1.0, -1.0], TrainOptions(baseline="none")) == [1.0, -1.0]


@pytest.mark.parametrize("baseline", ["group", "none"])
@pytest.mark.parametrize(
    ("reward", "steps", "message"),
    [
        (-1.0, 20, "first 5 .* no sampled reply was ever rewarded: teach it first with --method"),
        (0.1, 3, "first 3 .* all replies to a prompt earned the same"),
    ],
)
def test_a_task_without_signal_moves_nothing_and_ends_in_an_error(
    baseline: str, reward: float, steps: int, message: str, tmp_path: Path
) -> None:
    task = bandit(reward=lambda _reply, _example: reward)
    options = {**FAST, "baseline": baseline, "checkpoint": tmp_path, "patience": 0}
    told = pytest.raises(TrainingError, match=message)
    with told, pytest.warns(NoSignalWarning, match="step 1"):
        train_expert(build_text_model(), task, method="reinforce", steps=steps, **options)
    kept = load_file(next(tmp_path.glob("step-*.safetensors")))
    assert all(bool((value == 1.0).all()) for value in kept.values())
    rows = metrics(tmp_path)[1:]
    assert [row["grad_norm"] for row in rows] == [0.0] * min(steps, 5)
    assert [row["reward"] for row in rows] == pytest.approx([reward] * min(steps, 5))
    # The same call again has nothing to sample.
    with pytest.raises(TrainingError, match=message):
        train_expert(build_text_model(), task, method="reinforce", steps=steps, **options)
    assert len(metrics(tmp_path)) == 1 + len(rows)


def test_replies_that_are_always_right_are_told_apart() -> None:
    wrong = [-1.0] * len(bandit().split("val"))  # the base model's greedy replies alone
    rewards = iter(wrong + [1.0] * 10_000)
    task = bandit(reward=lambda _reply, _example: next(rewards))
    with pytest.raises(TrainingError, match="all sampled replies were right already"):
        train_expert(build_text_model(), task, method="reinforce", steps=2, **FAST)


def test_prompts_whose_replies_earn_the_same_add_the_kl_term_alone() -> None:
    """With signals in some prompts only, the others' rewards do not count, whatever they are."""

    def trained(other: float) -> dict[str, torch.Tensor]:
        def reward(reply: str, example: Example) -> float:
            return vowel_first(reply, example) if example.prompt[-1] in "02468" else other

        task = bandit(reward=reward)
        return dict(
            train_expert(
                build_text_model(), task, method="reinforce", steps=1, checkpoint=False, **FAST
            ).z
        )

    low, high = trained(-1.0), trained(0.3)
    assert any(bool((z != 1.0).any()) for z in low.values())
    assert all(torch.equal(z, high[name]) for name, z in low.items())


def test_a_step_without_signal_leaves_what_was_learnt(tmp_path: Path) -> None:
    model, even = build_text_model(), [False]

    def reward(reply: str, example: Example) -> float:
        return -1.0 if even[0] else vowel_first(reply, example)

    task = bandit(reward=reward)
    options = {**FAST, "checkpoint": tmp_path, "patience": 0}
    train_expert(model, task, method="reinforce", steps=2, **options)
    learnt = load_file(tmp_path / "step-000002.safetensors")
    even[0] = True
    train_expert(model, task, method="reinforce", steps=4, **options)
    after = load_file(tmp_path / "step-000004.safetensors")
    assert learnt.keys() == after.keys()
    assert all(torch.equal(learnt[name], after[name]) for name in learnt if name[:4] != "best")


def test_next_token_training_learns_calls() -> None:
    model = model_with(FAMILIES["phi-4-mini"], real=False)
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "The time?"}]
    call = {"name": "now", "arguments": {}}
    example = Example(messages=tuple(asked), tools=(tool,), calls=(call,))
    task = ExampleTask("t", {"train": [example], "val": [example]}, lambda _reply, _example: -1.0)

    def likely() -> float:
        completion = (0, wanted_tokens(model, example))
        return float(log_likelihoods(model, [Prompt.of(example)], [completion]).detach())

    before = likely()
    options: dict[str, Any] = {
        "validation": 1,
        "max_tokens": 2,
        "kl": 0.0,
        "learning_rate": 0.1,
        "patience": 0,
    }
    expert = train_expert(model, task, method="sft", steps=3, progress=False, **options)
    assert expert.card.examples == ("The time?",)
    with model.adapted(expert):
        assert likely() > before
