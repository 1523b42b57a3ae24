"""Accuracy with the base model, with experts and dispatched, on the shipped t2-nano."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from t2agent.bundle import bundled
from t2agent.dispatch import Decision, Request
from t2agent.mixture import Mixture
from t2agent.model import T2Model
from t2agent.nano import accuracy
from t2agent.nano.tasks import TASKS
from t2agent.train import Example, ExampleTask

with_experts = pytest.mark.skipif(
    not (bundled("experts") / "t2-nano" / "math").is_dir(), reason="t2-nano has no experts yet"
)


class ByImage:
    """Requests with an image go to read, the others to math."""

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        names = ["read" if request.images else "math" for request in requests]
        return [Decision(Mixture({n: 1.0}), "test", {n: 1.0}, True, 0.0) for n in names]


@pytest.fixture(scope="module")
def nano() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


@with_experts
def test_one_mixture_for_each_example(nano: T2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "_ROWS", 3)  # several batches
    task = TASKS["math"]
    examples = task.sample(4, seed=5, split="val")
    with_expert = accuracy.replies(nano, task, examples, "math")
    base = accuracy.replies(nano, task, examples)
    assert with_expert != base
    mixed = accuracy.replies(nano, task, examples, ["math", None, None, "math"])
    assert mixed == [with_expert[0], base[1], base[2], with_expert[3]]


@with_experts
def test_the_share_of_right_answers(nano: T2Model) -> None:
    task = TASKS["math"]
    examples = [replace(e, answer="no") for e in task.sample(2, seed=5, split="val")]
    assert accuracy.accuracy(nano, task, examples, "math") == 0.0
    replies = accuracy.replies(nano, task, examples, "math")
    answers = [text.rsplit(" ", 1)[1].rstrip(".") for text in replies]
    examples = [replace(examples[0], answer=answers[0]), examples[1]]
    assert accuracy.accuracy(nano, task, examples, "math") == 0.5


def test_what_a_task_says_of_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(task: ExampleTask) -> float:
        return accuracy.accuracy(None, task, examples)  # type: ignore[arg-type]

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
    monkeypatch.setattr(accuracy, "replies", lambda *_: ["a", "abc", "b", "a b"])
    assert found(ExampleTask("t", examples)) == 0.5  # rewards above 0
    assert found(Scored("t", examples)) == 0.5  # 8 letters of 16
    assert batches == []
    assert found(Together("t", examples)) == 0.25
    assert found(Rewarded("t", examples)) == 0.5
    assert batches == [4, 4]


@with_experts
def test_table_covers_every_pair_and_the_dispatcher(nano: T2Model) -> None:
    found = accuracy.table(
        nano, ByImage(), tasks=("math", "read"), experts={"math": "math"}, requests=4,
        split="val", progress=False,
    )  # fmt: skip
    assert set(found.by_expert) == {"math", "read"}
    assert all(set(scores) == {"base", "math"} for scores in found.by_expert.values())
    assert found.routed == {"math": 1.0, "read": 1.0}
    assert found.dispatched["math"] == found.by_expert["math"]["math"]
