"""Courses: two methods one after the other, epochs, batches and rates; which method is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from t2agent.errors import ConfigError, NoSignalWarning
from t2agent.experts.expert import Expert
from t2agent.models.likelihood import answer_tokens
from t2agent.train import Example, ExampleTask, TrainOptions, train_expert
from t2agent.train.adapters import SvfAdapter
from t2agent.train.choosing import Prospect
from t2agent.train.course import course_of, reply_room
from t2agent.train.keeping import run_folder
from t2agent.train.options import Scale, options_for
from t2agent.train.run import Run
from tests.models import build_text_model, tiny_text_model

FAST: dict[str, Any] = {
    "progress": False, "max_tokens": 3, "prompts": 4, "samples": 4, "validate_every": 2,
    "patience": 0, "validation": 4, "negatives": None, "mixed_precision": "no",
}  # fmt: skip
BOTH: dict[str, Any] = {**FAST, "method": "sft+reinforce", "steps": 5, "sft_steps": 3}
EXAMPLES = [Example(f"say {i}", "the dog") for i in range(40)]


def vowels(reply: str, example: Example) -> float:
    return sum(letter in "aeiou" for letter in reply) / max(1, len(reply)) - 0.5


def stopping(at: int) -> Any:
    calls = iter(range(1, 10_000))

    def reward(reply: str, example: Example) -> float:
        if next(calls) == at:
            raise KeyboardInterrupt
        return vowels(reply, example)

    return reward


def task(reward: Any = vowels) -> ExampleTask:
    return ExampleTask("vowels", EXAMPLES, reward)


def same(first: Expert, second: Expert) -> bool:
    return all(torch.equal(value, second.z[name]) for name, value in first.z.items())


def progress(folder: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((folder / "state.json").read_text())["progress"]
    return kept


def kept_z(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(folder.glob("step-*.safetensors")))


def test_next_token_then_reinforce_is_resumed_bit_for_bit_in_either_phase(tmp_path: Path) -> None:
    whole = train_expert(build_text_model(), task(), checkpoint=tmp_path / "whole", **BOTH)
    broken, phases = tmp_path / "broken", []
    for at in (6, 5, 26):  # in validation at step 2, in that between the phases, at step 5
        with pytest.raises(KeyboardInterrupt, match=r"stopped after step \d of 5, .* goes on"):
            train_expert(build_text_model(), task(stopping(at)), checkpoint=broken, **BOTH)
        phases.append(progress(broken)["phase"])
    assert phases == [0, 0, 1]
    resumed = train_expert(build_text_model(), task(), checkpoint=broken, **BOTH)
    assert same(whole, resumed)
    assert whole.card.scores == resumed.card.scores
    first, second = kept_z(tmp_path / "whole"), kept_z(broken)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    rows = [json.loads(line) for line in (broken / "metrics.jsonl").open()]
    assert [row["reward"] is None for row in rows] == [True] * 4 + [False] * 2
    training = resumed.card.training
    assert training["method"] == "sft+reinforce"
    assert [(p["method"], p["steps"]) for p in training["phases"]] == [("sft", 3), ("reinforce", 2)]
    assert [p["hyper"]["kl"] for p in training["phases"]] == [0.0, 0.02]


def test_reinforce_begins_where_next_token_was_best_once_that_stalls(tmp_path: Path) -> None:
    calls = iter(range(10_000))
    falling = task(lambda reply, example: -next(calls) / 10_000)
    options = {**BOTH, "sft_steps": 4, "steps": 5, "patience": 2, "validate_every": 1}
    expert = train_expert(build_text_model(), falling, checkpoint=tmp_path, **options)
    assert [p["steps"] for p in expert.card.training["phases"]] == [2, 2]
    # Stopped after one step of the second phase, from z = 1: no further away than its rate.
    calls = iter(range(10_000))
    again = {**options, "steps": 3, "sft_steps": 2, "patience": 0}
    train_expert(build_text_model(), falling, checkpoint=tmp_path / "one", **again)
    moved = [(v - 1).abs().max() for k, v in kept_z(tmp_path / "one").items() if k[:2] == "z:"]
    assert 0.01 < max(moved) <= 0.02001


def test_without_a_signal_reinforce_keeps_what_next_token_taught() -> None:
    calls = iter([-1.0] * 4 + [0.0] * 10_000)  # better after next-token training, but never again
    flat = task(lambda reply, example: next(calls))
    with pytest.warns(NoSignalWarning, match=r"first 5 step\(s\).*what was best before"):
        expert = train_expert(build_text_model(), flat, **{**BOTH, "steps": 20, "sft_steps": 2})
    assert expert.card.training["steps"] == 2 + 5
    assert (expert.card.training["best_step"], expert.card.scores["val"]) == (6, 0.0)


class Seen(ExampleTask):
    """Remembers what next-token training takes."""

    seen: list[str]

    def reference(self, example: Example) -> str:
        self.seen.append(example.prompt)
        return "the dog"


def test_an_epoch_is_once_through_the_examples_in_a_new_order(tmp_path: Path) -> None:
    def run(**more: Any) -> tuple[Expert, list[str], int]:
        seen = Seen("seen", EXAMPLES, vowels)
        seen.seen = []
        options = {**FAST, "method": "sft", "prompts": 5, **more}
        expert = train_expert(build_text_model(), seen, **options)
        return expert, seen.seen, len(seen.split("train"))

    expert, seen, count = run(epochs=2)
    assert sorted(seen[:count]) == sorted(set(seen))
    assert sorted(seen[count : 2 * count]) == sorted(set(seen))
    assert seen[:count] != seen[count : 2 * count]
    assert len(seen) == 5 * -(-2 * count // 5) == 5 * expert.card.training["steps"]
    assert expert.card.training["epochs"] == 2
    # One epoch, then made longer: what an unbroken run sees.
    _, first, _ = run(epochs=1, checkpoint=tmp_path)
    longer, rest, _ = run(epochs=2, checkpoint=tmp_path)
    assert first + rest == seen
    assert same(longer, expert)
    with pytest.raises(ConfigError, match="order 'epochs' there, 'drawn' here"):
        run(steps=2, checkpoint=tmp_path)


def test_epochs_need_a_list_of_examples_and_no_steps() -> None:
    class Endless:
        name = "endless"

        def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
            return EXAMPLES[:n]

        def reward(self, reply: str, example: Example) -> float:
            return 0.0

    with pytest.raises(ConfigError, match="without end"):
        train_expert(tiny_text_model(), Endless(), epochs=1, **FAST)
    with pytest.raises(ConfigError, match="give one of them"):
        train_expert(tiny_text_model(), task(), epochs=1, steps=1, **FAST)


def test_batches_are_added_up() -> None:
    options = {**FAST, "method": "reinforce", "steps": 2}
    one, two = (
        train_expert(build_text_model(), task(), **{**options, "prompts": n, "accumulate": 8 // n})
        for n in (8, 4)
    )
    assert same(one, two)
    assert (two.card.training["hyper"]["prompts"], two.card.training["hyper"]["accumulate"]) == (
        4,
        2,
    )


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464]),
    ],
)
def test_the_rate_rises_and_falls(schedule: str, factors: list[float]) -> None:
    model = tiny_text_model()
    hyper = {"warmup": 2, "schedule": schedule, "learning_rate": 0.1}
    course = course_of(model, task(), "sft", 6, None, hyper, 3)
    run = Run(model, task(), course, 0, None, SvfAdapter.start(model, course.phases[0].options))
    rates = []
    for step in range(6):
        run.state.progress.step = step
        rates.append(run._rate())
    assert rates == pytest.approx([0.1 * factor for factor in factors], rel=1e-3)


def test_a_rate_that_falls_belongs_to_its_steps(tmp_path: Path) -> None:
    options = {**FAST, "method": "sft", "schedule": "linear", "checkpoint": tmp_path}
    train_expert(tiny_text_model(), task(), steps=2, **options)
    with pytest.raises(ConfigError, match="steps 2 there, 3 here"):
        train_expert(tiny_text_model(), task(), steps=3, **options)
    with pytest.raises(ConfigError, match="warmup is 3, of 3 steps"):
        train_expert(tiny_text_model(), task(), steps=3, warmup=3, **options)
    with pytest.raises(ConfigError, match="at least 2 steps"):
        train_expert(tiny_text_model(), task(), **{**BOTH, "steps": 1})


def test_a_run_is_kept_by_its_name_until_it_is_finished() -> None:
    options = {**FAST, "method": "reinforce", "steps": 3}
    folder = run_folder("tiny-text", "vowels")
    whole = train_expert(build_text_model(), task(), checkpoint=False, **options)
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt, match="stopped after step"):
        train_expert(build_text_model(), task(stopping(30)), **options)
    assert progress(folder)["step"] >= 1
    assert not (folder / "expert").exists()
    resumed = train_expert(build_text_model(), task(), **options)
    assert same(whole, resumed)
    assert same(Expert.load(folder / "expert"), resumed)
    # A finished one makes way for the next; the reward is asked as often as at first.
    with pytest.raises(KeyboardInterrupt, match="stopped after step"):
        train_expert(build_text_model(), task(stopping(30)), **options)
    with pytest.warns(UserWarning, match=r"other settings \(learning_rate 0.02 there, 0.01 here\)"):
        train_expert(build_text_model(), task(), learning_rate=0.01, **options)
    assert progress(folder.with_name("vowels.stopped"))["step"] >= 1
    assert Expert.load(folder / "expert").card.training["hyper"]["learning_rate"] == 0.01


def test_other_examples_or_another_reward_are_another_run(tmp_path: Path) -> None:
    options = {**FAST, "method": "sft", "steps": 1, "checkpoint": tmp_path}
    train_expert(tiny_text_model(), task(), **options)
    others = [Example(e.prompt, "the fox") for e in EXAMPLES]
    with pytest.raises(ConfigError, match="data "):
        train_expert(tiny_text_model(), ExampleTask("vowels", others, vowels), **options)
    with pytest.raises(ConfigError, match=r"reward .*f1"):
        train_expert(tiny_text_model(), ExampleTask("vowels", EXAMPLES, "f1"), **options)


@pytest.mark.parametrize(
    ("prospect", "method"),
    [
        (Prospect(0.2, 0.5, taught=True, tokens=20), "reinforce"),
        (Prospect(-0.6, 0.5, taught=True, tokens=20), "sft+reinforce"),
        (Prospect(-1.0, 0.0, taught=False, tokens=20), "reinforce"),
        (Prospect(-1.0, 0.0, taught=True, tokens=20), "sft+reinforce"),
        (Prospect(-0.9, 0.05, taught=True, tokens=300), "sft+reinforce"),
        (Prospect(-1.0, 0.0, taught=True, tokens=300), "sft"),
    ],
)
def test_what_the_base_model_earns_decides_the_method(prospect: Prospect, method: str) -> None:
    chosen, why = prospect.method()
    assert chosen == method
    assert f"{prospect.reward:.2f}" in why


def test_the_method_is_chosen_told_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = ExampleTask("dogs", EXAMPLES, "exact")
    options = {**FAST, "checkpoint": tmp_path, "steps": 2, "progress": True}
    expert = train_expert(build_text_model(), exact, **options)
    assert expert.card.training["method"] == "sft+reinforce"
    assert "earn -1.00 in the mean" in expert.card.training["chosen"]
    assert f"dogs: sft+reinforce, since {expert.card.training['chosen']}" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="method 'sft\\+reinforce' there, 'sft' here"):
        train_expert(build_text_model(), exact, method="sft", **options)
    # Vowels pay by degrees, and the answers do not earn all of it.
    expert = train_expert(build_text_model(), task(), **{**FAST, "steps": 1})
    assert expert.card.training["method"] == "reinforce"


def test_a_reply_may_be_half_as_long_again_as_the_longest_wanted() -> None:
    model = tiny_text_model()
    longest = len(answer_tokens(model, "the dog"))
    exact, loose = (ExampleTask("t", EXAMPLES, reward) for reward in ("exact", "contains"))
    assert reply_room(model, exact, {}, EXAMPLES) == longest + longest // 2 + 8
    # Its answers only say what a reply must hold.
    assert reply_room(model, loose, {}, EXAMPLES) == 128
    assert reply_room(model, exact, {"max_tokens": 5}, EXAMPLES) == 5


def test_defaults_suit_base_model_and_task() -> None:
    nano = Scale(4_800_000, None, 80)
    assert options_for("reinforce", {}, nano) == TrainOptions()
    assert options_for("sft", {}, nano) == options_for("sft", {})
    larger = options_for("reinforce", {}, Scale(135_000_000, 4000, 200))
    assert (larger.prompts, larger.samples, larger.rows) == (8, 8, 16)
    assert options_for("sft", {"rows": 3}, Scale(135_000_000, 4000, 20)).rows == 3
    assert options_for("sft", {}, Scale(135_000_000, 5, 20)).prompts == 5
