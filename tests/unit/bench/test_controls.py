"""Controls: rewards and experts that say nothing."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from t2agent.bench.paper.controls import RandomReward, random_like, shuffled
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.train import Example, ExampleTask, Task, train_expert
from tests.models import tiny_text_model

EXAMPLES = [Example(f"say {i}", f"{i}") for i in range(200)]


def expert() -> Expert:
    generator = torch.Generator().manual_seed(1)
    z = {n: 1 + torch.randn(k, generator=generator) for n, k in (("b", 40), ("a", 7))}
    card = ExpertCard("math", training={"task": "math"}, scores={"val": 0.9}, base="x")
    return Expert(card, {**z, "c": torch.ones(3)})


def test_the_random_reward_is_a_coin_for_each_reply() -> None:
    inner = ExampleTask("numbers", EXAMPLES)
    task = RandomReward(inner, seed=1)
    assert isinstance(task, Task)
    assert task.name == "numbers-random"
    assert task.sample(9, seed=2, split="val") == inner.sample(9, seed=2, split="val")
    right = [task.reward(e.answer, e) for e in EXAMPLES]
    wrong = [task.reward("no", e) for e in EXAMPLES]
    assert set(right) == {1.0, -1.0}
    assert right == [task.reward(e.answer, e) for e in EXAMPLES]
    assert abs(sum(right)) < 60
    assert abs(sum(a * b for a, b in zip(right, wrong, strict=True))) < 60
    other = RandomReward(inner, seed=2)
    assert right != [other.reward(e.answer, e) for e in EXAMPLES]
    assert not hasattr(task, "max_tokens")
    assert not hasattr(task, "reference")


def test_the_random_reward_of_one_example_is_balanced_and_its_own_for_each_image() -> None:
    task = RandomReward(ExampleTask("numbers", EXAMPLES))
    drawn = [task.reward(f"reply {i}", EXAMPLES[0]) for i in range(400)]
    assert abs(sum(drawn)) < 80
    # Tasks with images ask the same of all of them: a reply must not be right for all.
    images = [Image.new("L", (2, 2), i) for i in range(200)]
    seen = [task.reward("three", Example("How many?", "3", image)) for image in images]
    assert abs(sum(seen)) < 60
    assert seen == [task.reward("three", Example("How many?", "", i.copy())) for i in images]


def test_optional_members_of_the_task_are_kept() -> None:
    class Short(ExampleTask):
        max_tokens = 3

        def reference(self, example: Example) -> str:
            return f"It is {example.answer}."

    task = RandomReward(Short("short", EXAMPLES), seed=0)
    assert task.max_tokens == 3
    assert task.reference(EXAMPLES[4]) == "It is 4."
    trained = train_expert(
        tiny_text_model(),
        task,
        method="reinforce",
        steps=1,
        prompts=2,
        samples=2,
        validation=4,
        progress=False,
    )
    assert trained.name == "short-random"


def test_shuffled_keeps_the_values_of_each_module() -> None:
    original = expert()
    control = shuffled(original, seed=3)
    for name, z in original.z.items():
        assert torch.equal(control.z[name].sort().values, z.sort().values)
    assert not torch.equal(control.z["b"], original.z["b"])
    assert torch.equal(control.z["b"], shuffled(original, seed=3).z["b"])
    assert not torch.equal(control.z["b"], shuffled(original, seed=4).z["b"])
    assert list(control.z) == list(original.z)


def test_random_like_keeps_the_length_of_each_module() -> None:
    original = expert()
    control = random_like(original, seed=3)
    for name, z in original.z.items():
        assert float((control.z[name] - 1).norm()) == pytest.approx(float((z - 1).norm()), rel=1e-5)
    assert bool((control.z["c"] == 1).all())
    assert not torch.equal(control.z["b"], random_like(original, seed=4).z["b"])
    assert torch.equal(control.z["b"], random_like(original, seed=3).z["b"])


@pytest.mark.parametrize("make", [shuffled, random_like])
def test_the_card_says_what_it_is(make: object) -> None:
    original = expert()
    control = make(original, seed=3)  # type: ignore[operator]
    assert control.name in ("math-shuffled", "math-random")
    assert control.card.base == "x"
    assert control.card.scores == {}
    assert control.card.training["of"] == "math"
    assert original.card.scores == {"val": 0.9}
