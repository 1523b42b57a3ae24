"""What experts are worth for a task: on the shipped t2-nano, and on a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from t2agent.errors import ConfigError, ExpertNotFoundError, ModalityError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.nano.tasks import TASKS
from t2agent.paths import bundled
from t2agent.progress import Bar
from t2agent.train import Example, ExampleTask, evaluation
from tests.models import build_text_model

with_experts = pytest.mark.skipif(
    not (bundled("experts") / "t2-nano" / "math").is_dir(), reason="t2-nano has no experts yet"
)


@pytest.fixture(scope="module")
def nano() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


@with_experts
def test_one_mixture_for_each_example(nano: T2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_ROWS", 3)  # several batches
    task = TASKS["math"]
    examples = task.sample(4, seed=5, split="val")
    with_expert = evaluation.replies(nano, task, examples, "math")
    base = evaluation.replies(nano, task, examples)
    assert with_expert != base
    mixed = evaluation.replies(nano, task, examples, ["math", None, None, "math"])
    assert mixed == [with_expert[0], base[1], base[2], with_expert[3]]
    assert evaluation.replies(nano, task, examples[:1], {"math": 1.0}) == with_expert[:1]


@with_experts
def test_the_share_of_right_answers(nano: T2Model) -> None:
    task = TASKS["math"]
    examples = [replace(e, answer="no") for e in task.sample(2, seed=5, split="val")]
    assert evaluation.accuracy(nano, task, examples, "math") == 0.0
    replies = evaluation.replies(nano, task, examples, "math")
    answers = [text.rsplit(" ", 1)[1].rstrip(".") for text in replies]
    examples = [replace(examples[0], answer=answers[0]), examples[1]]
    assert evaluation.accuracy(nano, task, examples, "math") == 0.5


def test_what_a_task_says_of_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(task: ExampleTask) -> float:
        return evaluation.accuracy(None, task, examples)  # type: ignore[arg-type]

    class Scored(ExampleTask):
        def score(self, reply: str, example: Example) -> float:
            return len(reply) / 4

    class Together(Scored):
        def scores(self, replies: list[str], examples: list[Example]) -> list[float]:
            batches.append(len(replies))
            return [self.score(*pair) / 2 for pair in zip(replies, examples, strict=True)]

    class Rewarded(ExampleTask):
        def rewards(self, replies: list[str], examples: list[Example]) -> list[float]:
            batches.append(len(replies))
            return [self.reward(*pair) for pair in zip(replies, examples, strict=True)]

    batches: list[int] = []
    examples = [Example(f"say {text}", text) for text in ("a", "abc", "bb", "bc")]
    monkeypatch.setattr(evaluation, "replies", lambda *_: ["a", "abc", "b", "a b"])
    assert found(ExampleTask("t", examples)) == 0.5  # rewards above 0
    assert found(Scored("t", examples)) == 0.5  # 8 letters of 16
    assert batches == []
    assert found(Together("t", examples)) == 0.25
    assert found(Rewarded("t", examples)) == 0.5
    assert batches == [4, 4]


@with_experts
def test_an_expert_beside_the_base_model(nano: T2Model) -> None:
    bar = Bar(None)
    task = TASKS["math"]
    examples = task.sample(12, seed=3, split="test")
    evaluation.replies(nano, task, examples, bar=bar)
    found = evaluation.evaluate(nano, task, "math", n=12, seed=3, progress=False)

    assert bar.done == found.examples == 12
    assert found.right == evaluation.accuracy(nano, task, examples, "math")
    assert found.base_right == evaluation.accuracy(nano, task, examples)
    # Rewards are +1 and -1.
    assert found.reward.mean == pytest.approx(2 * found.right - 1)
    assert found.base.mean == pytest.approx(2 * found.base_right - 1)
    assert found.gain.mean == pytest.approx(found.reward.mean - found.base.mean)
    assert found.gain.mean - found.gain.half > 0


def test_examples_drawn_twice_count_once_and_paired_differences_are_taken() -> None:
    model = build_text_model()
    examples = [Example(f"say {i}", "x") for i in range(30)]
    task = ExampleTask("t", examples, lambda reply, example: len(reply) / 1000)
    task.max_tokens = 4
    found = evaluation.evaluate(
        model, task, Expert.identity(model, "one"), n=500, split="train", progress=False
    )

    assert found.examples == len(task.split("train")) < 30
    assert found.reward == found.base
    assert (found.gain.mean, found.gain.half) == (0.0, 0.0)


def test_the_steps_of_an_example_are_part_of_its_prompt() -> None:
    steps = ({"role": "assistant", "content": "wait"}, {"role": "user", "content": "the sixth"})
    examples = [Example("Say a word.", "b"), Example("Say a word.", "b", None, steps)]
    task = ExampleTask("t", examples)
    task.max_tokens = 8
    asked, went_on = evaluation.replies(build_text_model(), task, examples)
    assert asked != went_on


def test_what_cannot_be_measured() -> None:
    from PIL import Image

    model = build_text_model()
    task = ExampleTask("t", [Example("a", "b"), Example("c", "d"), Example("e", "f")])
    with pytest.raises(ExpertNotFoundError):
        evaluation.evaluate(model, task, "nobody")
    for n in (0, -1, 2.0, True):
        with pytest.raises(ConfigError, match="whole number"):
            evaluation.evaluate(model, task, None, n=n)
    with pytest.raises(ConfigError, match="split"):
        evaluation.evaluate(model, task, None, split="tests")
    pictures = ExampleTask("p", [Example("a", "b", Image.new("RGB", (4, 4)))])
    with pytest.raises(ModalityError):
        evaluation.evaluate(model, pictures, None, split="train")
