"""The loop: the same z however often it is interrupted, a base that stays as it is, early stop."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from t2agent.errors import ConfigError, ExpertMismatchError, ModalityError, TrainingError
from t2agent.experts.expert import Expert
from t2agent.models.prompt import Prompt
from t2agent.train import Example, ExampleTask, attach_record, train_expert
from t2agent.train.metrics import METRIC_NAMES
from tests.models import build_text_model, tiny_text_model

FAST: dict[str, Any] = {
    "method": "reinforce", "progress": False, "max_tokens": 3, "prompts": 4, "samples": 4,
    "validate_every": 2,
}  # fmt: skip


class Judge:
    """A reward that never saturates, and that can be interrupted at a call."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls = 0
        self.stop_at = stop_at

    def __call__(self, reply: str, example: Example) -> float:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return sum(letter in "aeiou" for letter in reply) / max(1, len(reply)) - 0.5


def make_task(reward: Any) -> ExampleTask:
    return ExampleTask("vowels", [Example(f"say {i}", "x") for i in range(40)], reward)


def same(first: Expert, second: Expert) -> bool:
    return all(torch.equal(value, second.z[name]) for name, value in first.z.items())


@pytest.mark.parametrize("method", ["reinforce", "sft"])
def test_a_task_that_judges_many_replies_at_once_trains_the_same(method: Any) -> None:
    judge, batches = Judge(), []

    class AtOnce(ExampleTask):
        def rewards(self, replies: list[str], examples: list[Example]) -> list[float]:
            batches.append(len(replies))
            return [judge(*pair) for pair in zip(replies, examples, strict=True)]

        def reward(self, reply: str, example: Example) -> float:
            raise AssertionError("asked one by one")

    one_by_one = Judge()
    at_once = AtOnce("vowels", [Example(f"say {i}", "x") for i in range(40)])
    options = {**FAST, "method": method, "steps": 4, "patience": 0}
    first = train_expert(build_text_model(), make_task(one_by_one), **options)
    second = train_expert(build_text_model(), at_once, **options)
    assert same(first, second)
    assert first.card.scores == second.card.scores
    assert judge.calls == one_by_one.calls == sum(batches)
    # A validation before the first step, and one after every second.
    assert len(batches) == 3 + (4 if method == "reinforce" else 0)


@pytest.mark.parametrize("method", ["reinforce", "sft"])
def test_resuming_gives_the_z_of_an_unbroken_run(method: Any, tmp_path: Path) -> None:
    straight = Judge()
    options = {**FAST, "method": method, "steps": 7, "patience": 0}
    whole = train_expert(
        build_text_model(), make_task(straight), checkpoint=tmp_path / "whole", **options
    )
    broken = tmp_path / "broken"
    # Interrupted in a validation, in a step and, for good measure, at the very start.
    for stop_at in (2, straight.calls // 3, straight.calls // 3):
        with pytest.raises(KeyboardInterrupt):
            train_expert(
                build_text_model(), make_task(Judge(stop_at)), checkpoint=broken, **options
            )
    resumed = train_expert(build_text_model(), make_task(Judge()), checkpoint=broken, **options)
    assert same(whole, resumed)
    assert whole.card.scores == resumed.card.scores
    last = {f: load_file(next((tmp_path / f).glob("*.safetensors"))) for f in ("whole", "broken")}
    assert last["whole"].keys() == last["broken"].keys()
    assert all(torch.equal(value, last["broken"][key]) for key, value in last["whole"].items())
    measured = dict.fromkeys(("seconds", "tokens_per_second", "memory"), 0)
    rows = [
        [{**json.loads(line), **measured} for line in (tmp_path / f / "metrics.jsonl").open()]
        for f in ("whole", "broken")
    ]
    assert rows[0] == rows[1]
    assert len({(tmp_path / f / "samples.jsonl").read_text() for f in ("whole", "broken")}) == 1
    assert [row["step"] for row in rows[0]] == list(range(8))


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    options = {**FAST, "patience": 0}
    short = tmp_path / "short"
    train_expert(build_text_model(), make_task(Judge()), steps=3, checkpoint=short, **options)
    longer = train_expert(
        build_text_model(), make_task(Judge()), steps=6, checkpoint=short, **options
    )
    at_once = train_expert(build_text_model(), make_task(Judge()), steps=6, **options)
    assert same(longer, at_once)
    again = Judge()
    train_expert(build_text_model(), make_task(again), steps=6, checkpoint=short, **options)
    assert again.calls == 0


def test_another_seed_gives_another_z() -> None:
    options = {**FAST, "steps": 2, "patience": 0}
    first, second = (
        train_expert(build_text_model(), make_task(Judge()), seed=seed, **options)
        for seed in (0, 1)
    )
    assert not same(first, second)


def test_the_base_stays_as_it_is() -> None:
    model = build_text_model()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    inputs = model.tokenizer("What is seven", return_tensors="pt")
    with torch.no_grad():
        logits = model.model(**inputs).logits
    expert = train_expert(model, make_task(Judge()), steps=2, **FAST)
    after = model.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None and not p.requires_grad for p in model.model.parameters())
    assert not any(z.requires_grad for z in expert.z.values())
    with torch.no_grad():
        assert torch.equal(model.model(**inputs).logits, logits)


def test_the_card_tells_how_it_was_trained(tmp_path: Path) -> None:
    model = tiny_text_model()
    expert = train_expert(
        model, make_task(Judge()), steps=2, seed=5, name="vowels-2", description="Vowels.", kl=0.1,
        **FAST,
    )  # fmt: skip
    card = expert.card
    assert (card.name, card.description, card.modality) == ("vowels-2", "Vowels.", "text")
    assert (card.base, card.base_fingerprint) == (model.name, model.fingerprint)
    assert set(card.examples) <= {e.prompt for e in make_task(Judge()).split("train")}
    assert len(card.examples) == len(set(card.examples)) > 20
    assert card.training["hyper"]["kl"] == 0.1
    assert card.training["parameters"] == expert.parameters
    assert (card.training["steps"], card.training["seed"]) == (2, 5)
    assert set(card.scores) == {"val", "val_base", "val_right", "val_base_right"}
    expert.save(tmp_path / "expert")
    assert same(Expert.load(tmp_path / "expert"), expert)


def test_training_stops_when_validation_stops_to_improve() -> None:
    expert = train_expert(
        tiny_text_model(), make_task(lambda reply, example: 0.0), steps=50,
        **{**FAST, "method": "sft", "patience": 2, "validate_every": 1},
    )  # fmt: skip
    assert expert.card.training["steps"] == 2


def test_a_perfect_base_needs_no_step() -> None:
    expert = train_expert(tiny_text_model(), make_task(lambda r, e: 1.0), steps=50, **FAST)
    assert expert.card.training["steps"] == 0
    assert all(bool((z == 1).all()) for z in expert.z.values())


def test_the_best_z_is_returned_not_the_last(tmp_path: Path) -> None:
    # After the first validation, each one is worse than the one before.
    calls = iter(range(10_000))

    def falling(reply: str, example: Example) -> float:
        return -next(calls) / 10_000

    expert = train_expert(
        tiny_text_model(), make_task(falling), steps=4, checkpoint=tmp_path,
        **{**FAST, "patience": 0},
    )  # fmt: skip
    assert expert.card.training["best_step"] == 0
    assert all(bool((z == 1).all()) for z in expert.z.values())
    assert expert.card.scores["val"] == expert.card.scores["val_base"]
    last = load_file(next(tmp_path.glob("step-*.safetensors")))
    assert any(bool((v != 1).any()) for k, v in last.items() if k.startswith("z:"))


def test_metrics_and_curve_are_kept_and_can_be_attached(tmp_path: Path) -> None:
    folder, target = tmp_path / "run", tmp_path / "expert"
    expert = train_expert(tiny_text_model(), make_task(Judge()), steps=2, checkpoint=folder, **FAST)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert set(rows[1]) == set(METRIC_NAMES)
    assert {name for name, value in rows[1].items() if value is None} == {"val", "val_right"}
    assert rows[1]["val"] is None
    assert rows[2]["val"] is not None
    with Image.open(io.BytesIO((folder / "curve.png").read_bytes())) as image:
        image.load()
        assert image.width > 400
    with pytest.raises(ConfigError, match="save the expert there first"):
        attach_record(folder, target)
    expert.save(target)
    attach_record(folder, target)
    for name in ("curve.png", "report.md"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    assert same(Expert.load(target), expert)
    with pytest.raises(ConfigError, match="no metrics"):
        attach_record(tmp_path, target)


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    options = {**FAST, "steps": 1, "checkpoint": tmp_path}
    train_expert(tiny_text_model(), make_task(Judge()), **options)
    with pytest.raises(ConfigError, match=r"kl 0.02 there, 0.5 here, seed 0 there, 1 here"):
        train_expert(tiny_text_model(), make_task(Judge()), seed=1, kl=0.5, **options)


@pytest.mark.parametrize("damage", ["state.json", "metrics.jsonl", "tensors", "shape"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    options = {**FAST, "steps": 1, "checkpoint": tmp_path}
    train_expert(tiny_text_model(), make_task(Judge()), **options)
    tensors = next(tmp_path.glob("step-*.safetensors"))
    if damage == "tensors":
        tensors.write_bytes(tensors.read_bytes()[:100])
    elif damage == "shape":
        from safetensors.torch import save_file

        save_file({"z:other": torch.ones(3)}, tensors)
    else:
        (tmp_path / damage).write_text("{")
    with pytest.raises(ConfigError, match="delete the folder"):
        train_expert(tiny_text_model(), make_task(Judge()), **options)


def test_gradients_that_stay_infinite_end_the_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train_expert(
            build_text_model(), make_task(lambda r, e: 0.0), steps=20,
            learning_rate=1e30, checkpoint=tmp_path, **{**FAST, "method": "sft", "patience": 0},
        )  # fmt: skip
    kept = load_file(next(tmp_path.glob("step-*.safetensors")))
    assert all(bool(torch.isfinite(value).all()) for value in kept.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"method": "dpo"}, "method"),
        ({"lr": 0.1}, "lr; known"),
        ({"name": "a/b"}, "a/b"),
    ],
)
def test_unusable_options_are_refused_before_any_work(
    options: dict[str, Any], message: str
) -> None:
    judge = Judge()
    with pytest.raises(ConfigError, match=message):
        train_expert(tiny_text_model(), make_task(judge), **{**FAST, **options})
    assert judge.calls == 0


def test_images_need_a_model_that_sees() -> None:
    task = ExampleTask("t", [Example(f"{i}?", "x", Image.new("RGB", (8, 8))) for i in range(9)])
    with pytest.raises(ModalityError, match="reads text only"):
        train_expert(tiny_text_model(), task, steps=1, progress=False)


def test_one_example_is_too_few() -> None:
    with pytest.raises(ConfigError, match="at least 2 different prompts"):
        train_expert(tiny_text_model(), ExampleTask("t", [Example("a", "b")]), progress=False)


def test_a_broken_reward_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Broken(Judge):
        def __call__(self, reply: str, example: Example) -> float:
            if self.calls > 25:
                raise ValueError("no")
            return super().__call__(reply, example)

    with pytest.raises(ConfigError, match="ValueError: no"):
        train_expert(tiny_text_model(), make_task(Broken()), steps=9, checkpoint=tmp_path, **FAST)
    assert json.loads((tmp_path / "state.json").read_text())["progress"]["step"] >= 1
    shutil.rmtree(tmp_path)


def test_training_goes_on_from_another_expert(tmp_path: Path) -> None:
    model, task = build_text_model(), make_task(Judge())
    first = train_expert(model, task, steps=4, name="first", seed=1, **FAST)
    further = train_expert(model, task, steps=2, start=first, patience=0, **FAST)
    anew = train_expert(model, task, steps=2, patience=0, **FAST)
    assert further.card.scores["val_base"] == first.card.scores["val_base"]
    assert further.card.scores["val"] >= first.card.scores["val"]
    assert not same(further, anew)
    assert further.card.training["start"] != first.card.training.get("start")
    # A run from elsewhere is another run.
    train_expert(model, task, steps=1, start=first, checkpoint=tmp_path, **FAST)
    with pytest.raises(ConfigError, match="start"):
        train_expert(model, task, steps=2, checkpoint=tmp_path, **FAST)


def test_an_expert_of_another_model_is_no_start() -> None:
    stranger = Expert.identity(build_text_model(seed=7), "stranger")
    with pytest.raises(ExpertMismatchError):
        train_expert(build_text_model(), make_task(Judge()), steps=1, start=stranger, **FAST)


def test_an_example_may_be_at_a_later_step() -> None:
    call = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": 1}}}
    steps = (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "33", "tool_call_id": "1", "name": "add"},
    )
    prompt = Prompt.of(Example("1 + 32?", "33", steps=steps))
    assert [message["role"] for message in prompt.messages] == ["user", "assistant", "tool"]
    seen: list[str] = []

    def reward(reply: str, example: Example) -> float:
        seen.extend(message["content"] for message in example.steps)
        return 0.0

    task = ExampleTask("later", [Example(f"{i} + 32?", "x", steps=steps) for i in range(9)], reward)
    train_expert(build_text_model(), task, steps=1, **{**FAST, "method": "sft"})
    assert "33" in seen
