from __future__ import annotations

from collections import Counter

import pytest
from PIL import Image

from t2agent.dispatch import ClassifierDispatcher, PromptDispatcher, Request
from t2agent.dispatch.classification import ClassificationTask
from t2agent.dispatch.dispatcher import OTHERS, category_question
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.train import Example, ExampleTask, Task, train_expert
from tests.models import build_text_model

PICTURE = Image.new("RGB", (8, 8))
MATH = ExampleTask("sums", [Example(f"{n} + 1?", str(n + 1)) for n in range(60)])
CODE = ExampleTask("code", [Example(f"print({n})", str(n)) for n in range(60)])
READ = ExampleTask("read", [Example(f"Picture {n}?", "a", PICTURE) for n in range(60)])
CHAT = [f"Tell me of {n} things" for n in range(60)]
TASKS: dict[str, Task] = {"math": MATH, "read": READ, "code": CODE}


def task(**fields: object) -> ClassificationTask:
    return ClassificationTask("classifier", **{"tasks": TASKS, "others": CHAT, **fields})  # type: ignore[arg-type]


def test_it_is_a_task() -> None:
    made = task()
    assert isinstance(made, Task)
    assert (made.name, made.max_tokens) == ("classifier", 16)


def test_questions_are_those_that_dispatch_asks() -> None:
    examples = task().sample(80, seed=0)
    labels = Counter(example.answer for example in examples)
    assert labels == {"math": 20, "code": 20, "read": 20, OTHERS: 20}
    for example in examples:
        request = example.prompt.rpartition(": ")[2]
        images = int("image" in example.prompt.splitlines()[1].split(":")[0])
        names = ["code", "math", "read"] if images else ["code", "math"]
        assert example.prompt == category_question(Request(request, images), names)
        assert example.image is None
        assert images == (example.answer == "read")


def test_splits_do_not_overlap_and_the_seed_sets_the_draw() -> None:
    made = task()
    prompts = {s: {e.prompt for e in made.sample(60, seed=1, split=s)} for s in ("train", "test")}
    assert not prompts["train"] & prompts["test"]
    assert made.sample(9, seed=1) == made.sample(9, seed=1)
    assert made.sample(9, seed=1) != made.sample(9, seed=2)
    assert len(made.sample(9, seed=1)) == 9
    answers = [example.answer for example in made.sample(12, seed=1)]
    assert answers != sorted(answers)


def test_the_reward_is_for_the_bare_name() -> None:
    made = task()
    [example] = made.sample(1, seed=0)
    assert made.reward(f"{example.answer}\n", example) == 1.0
    assert made.reward(f"It is {example.answer}.", example) == -1.0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tasks": {"math": MATH}, "others": ()}, "at least two"),
        ({"tasks": {**TASKS, OTHERS: CODE}}, "'others' cannot be a label"),
        ({"tasks": {**TASKS, "classifier": CODE}}, "'classifier' cannot be a label"),
        ({"tasks": {**TASKS, "no name": CODE}}, "cannot name an expert"),
    ],
)
def test_what_cannot_be_told_apart(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        task(**fields)


def test_an_unknown_split() -> None:
    with pytest.raises(ConfigError, match="'holdout'"):
        task().sample(3, seed=0, split="holdout")


def test_an_expert_is_trained_and_asked() -> None:
    model = build_text_model()
    for name in ("math", "code"):
        model.registry.register(Expert.identity(model, name), eligible=True)
    made = ClassificationTask("classifier", {"math": MATH, "code": CODE})
    expert = train_expert(
        model, made, method="sft", steps=12, prompts=8, validation=4, validate_every=12,
        max_tokens=4, learning_rate=0.05, progress=False,
    )  # fmt: skip
    assert expert.name == "classifier"
    model.registry.register(expert)
    requests = [Request("3 + 1?"), Request("print(3)")]
    before = PromptDispatcher(model).dispatch(requests)
    after = ClassifierDispatcher(model).dispatch(requests)
    # Next-token training makes the names likelier than "others", which was never an answer.
    for one, other in zip(before, after, strict=True):
        assert set(other.scores) == {"math", "code"}
        assert sum(other.scores.values()) > max(0.9, sum(one.scores.values()))
