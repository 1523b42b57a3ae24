"""Training a part of z: some modules, the first directions; and whole replies to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from t2agent.errors import ConfigError
from t2agent.tasks.task import whole_reply
from t2agent.train import Example, ExampleTask, TrainOptions, train_expert
from t2agent.train.adapters import stretch
from t2agent.train.setup import chosen_layers
from tests.models import build_text_model, tiny_text_model, tiny_vision_model

FAST: dict[str, Any] = {
    "progress": False, "max_tokens": 3, "prompts": 4, "samples": 4, "patience": 0, "steps": 4,
    "validate_every": 2,
}  # fmt: skip


def vowels(reply: str, example: Example) -> float:
    return sum(letter in "aeiou" for letter in reply) / max(1, len(reply)) - 0.5


def make_task(reward: Any = vowels) -> ExampleTask:
    return ExampleTask("vowels", [Example(f"say {i}", "x") for i in range(40)], reward)


@pytest.mark.parametrize("method", ["reinforce", "sft"])
def test_directions_beyond_the_first_stay_exactly_1(method: Any, tmp_path: Path) -> None:
    model = build_text_model()
    options = {**FAST, "method": method, "directions": 40, "kl": 0.1}
    expert = train_expert(model, make_task(), checkpoint=tmp_path, **options)
    sizes = list(model.shapes.values())
    assert min(sizes) < 40 < max(sizes)
    assert expert.card.training["parameters"] == sum(min(40, size) for size in sizes)
    last = load_file(next(tmp_path.glob("step-*.safetensors")))
    for name, size in model.shapes.items():
        z = last[f"z:{name}"]
        assert len(z) == len(expert.z[name]) == size
        assert bool((z[40:] == 1).all())
        assert bool((expert.z[name][40:] == 1).all())
        assert bool((z[:40] != 1).any())


def test_evenness_lengthens_the_steps_of_small_directions(tmp_path: Path) -> None:
    found = {}
    for evenness in (0.0, 1.0):
        folder, model = tmp_path / str(evenness), build_text_model()
        options = {**FAST, "steps": 1, "validate_every": 1, "mixed_precision": "no"}
        options |= {"method": "sft", "evenness": evenness, "checkpoint": folder}
        train_expert(model, make_task(), **options)
        found[evenness] = load_file(next(folder.glob("step-*.safetensors")))
    for name, basis in model.bases.items():
        plain, even = (found[evenness][f"z:{name}"] - 1 for evenness in (0.0, 1.0))
        factor = (basis.s.mean() / basis.s).clamp_max(10)
        torch.testing.assert_close(even, plain * factor, atol=1e-6, rtol=1e-3)
        assert even.abs()[0] < plain.abs()[0]
    assert torch.equal(stretch(torch.zeros(3), 0.5), torch.ones(3))
    assert torch.equal(stretch(torch.tensor([3.0, 0.0]), 0.0), torch.ones(2))


def test_all_directions_are_the_same_as_no_limit() -> None:
    whole, limited = (
        train_expert(build_text_model(), make_task(), directions=directions, **FAST)
        for directions in (None, 1000)
    )
    assert all(torch.equal(z, limited.z[name]) for name, z in whole.z.items())
    assert whole.card.training["parameters"] == limited.card.training["parameters"]


@pytest.mark.parametrize("modules", ["attention", "mlp", r"layers\.1\.mlp"])
def test_modules(modules: str) -> None:
    model = build_text_model()
    expert = train_expert(model, make_task(), modules=modules, **FAST)
    part = {"attention": "self_attn", "mlp": "mlp"}.get(modules, "layers.1.mlp")
    assert set(expert.z) == {name for name in model.shapes if part in name}
    assert expert.card.training["parameters"] == expert.parameters
    assert expert.card.training["hyper"]["modules"] == modules
    with model.adapted(expert):
        model.model(**model.tokenizer("What is", return_tensors="pt"))


def test_modules_of_a_model_that_sees_and_none() -> None:
    model = tiny_vision_model()
    both = {*chosen_layers(model, "attention"), *chosen_layers(model, "mlp")}
    assert both == set(chosen_layers(model, "all")) == set(model.targets.layers)
    with pytest.raises(ConfigError, match=r"'nowhere' matches none of the 14"):
        chosen_layers(tiny_text_model(), "nowhere")
    for value in ("(", 3):
        with pytest.raises(ConfigError, match="regular expression"):
            TrainOptions(modules=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="directions"):
        TrainOptions(directions=0)


def test_a_run_with_other_modules_is_another_run(tmp_path: Path) -> None:
    options = {**FAST, "steps": 1, "checkpoint": tmp_path}
    train_expert(tiny_text_model(), make_task(), **options)
    with pytest.raises(ConfigError, match="modules None there, 'mlp' here"):
        train_expert(tiny_text_model(), make_task(), modules="mlp", **options)


def test_checkpoints_older_than_an_option_go_on() -> None:
    assert not {"modules", "directions"} & set(TrainOptions().identity())
    assert TrainOptions(directions=3).identity()["directions"] == 3


class Referred(ExampleTask):
    wanted: Any = "the dog"

    def reference(self, example: Example) -> Any:
        return self.wanted


def test_sft_learns_the_reference_of_a_task_or_an_example_that_has_one(tmp_path: Path) -> None:
    task = Referred("dogs", [Example(f"say {i}", "x") for i in range(20)], "exact")
    said = ExampleTask("dogs", [Example(f"say {i}", "the dog") for i in range(20)], "exact")
    assert whole_reply(task, Example("a", "b", reference="c")) == "the dog"
    assert whole_reply(said, Example("a", "b")) == ""
    own = ExampleTask("dogs", [Example(f"say {i}", "x", reference="the dog") for i in range(20)])
    z = []
    for folder, each in (("task", task), ("said", said), ("own", own)):
        options = {**FAST, "method": "sft", "checkpoint": tmp_path / folder}
        train_expert(build_text_model(), each, **options)
        last = load_file(next((tmp_path / folder).glob("step-*.safetensors")))
        z.append({name: value for name, value in last.items() if name.startswith("z:")})
    assert all(torch.equal(value, z[1][name]) for name, value in z[0].items())
    assert all(torch.equal(value, z[1][name]) for name, value in z[2].items())


def test_a_reference_that_is_no_text() -> None:
    task = Referred("dogs", [Example(f"say {i}", "x") for i in range(20)])
    task.wanted = 7
    with pytest.raises(ConfigError, match=r"reference of task 'dogs'.*int"):
        train_expert(tiny_text_model(), task, method="sft", **FAST)
