from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from t2agent.dispatch.few_shot.shots import gather
from t2agent.errors import ConfigError
from t2agent.train import Example, ExampleTask

PAIRS = [("2 + 2?", "4"), ("3 + 3?", "6")]


def test_answers_are_found_in_replies_unless_told_otherwise() -> None:
    shots = gather(PAIRS)
    assert (len(shots), shots.modality, shots.max_tokens) == (2, "text", 128)
    assert [shots.score(reply, 0) for reply in (" 4\n", "It is 4.", "It is 5.")] == [1, 1, -1]
    exact = gather(PAIRS, "exact")
    assert (exact.score(" 4\n", 0), exact.score("It is 4.", 0)) == (1.0, -1.0)
    assert gather(PAIRS, "contains").score("It is 4.", 0) == 1.0
    half = gather(PAIRS, lambda reply, example: 0.5 if reply == example.answer else -0.5)
    assert (half.score("6", 1), half.score("7", 1)) == (0.5, -0.5)


def test_a_task_brings_its_examples_and_reward() -> None:
    task = ExampleTask("sums", [Example(f"{n} + 1?", str(n + 1)) for n in range(40)], "contains")
    shots = gather(task, count=5, seed=3)
    assert [e.prompt for e in shots.examples] == [e.prompt for e in task.sample(5, seed=3)]
    assert shots.score(f"It is {shots.examples[0].answer}.", 0) == 1.0
    assert gather(task, "exact").score("It is 1.", 0) == -1.0
    assert gather(shots) is shots


def test_many_replies_are_judged_together_where_the_task_can() -> None:
    class Together(ExampleTask):
        def rewards(self, replies: list[str], examples: list[Example]) -> list[float]:
            return [0.25] * len(replies)

    task = Together("sums", [Example(f"{n} + 1?", str(n + 1)) for n in range(40)])
    assert gather(task, count=2).scores(["a", "b"], [0, 1]) == [0.25, 0.25]
    own = gather(task, "exact", count=2)  # the task's rewards are not asked for
    assert own.scores([own.examples[1].answer, "b"], [1, 0]) == [1.0, -1.0]


def test_references_are_whole_replies() -> None:
    triple = ("2 + 2?", "4", "2 + 2 = 4.")
    judge = lambda reply, example: 1.0 if reply.endswith(f"= {example.answer}.") else -1.0  # noqa: E731
    shots = gather([triple, ("3 + 3?", "6"), ("1 + 1?", "= 2.")], judge)
    assert [shots.reference(row) for row in range(3)] == ["2 + 2 = 4.", "", ""]
    assert gather(PAIRS, "exact").reference(1) == "6"
    assert gather(PAIRS).reference(1) == ""  # it is found in replies, and is none
    assert gather([Example("2 + 2?", "4", reference="2 + 2 = 4.")]).reference(0) == "2 + 2 = 4."


def test_a_task_tells_its_references() -> None:
    class Sums(ExampleTask):
        def reference(self, example: Example) -> str:
            return f"It is {example.answer}."

    shots = gather(Sums("sums", [Example(f"{n} + 1?", str(n + 1)) for n in range(9)]), count=2)
    assert shots.reference(0) == f"It is {shots.examples[0].answer}."
    judged = gather(Sums("sums", [Example("1 + 1?", "2")]), "contains")
    assert judged.reference(0) == "It is 2."  # whoever judges


def test_a_task_says_how_long_replies_are() -> None:
    class Short(ExampleTask):
        max_tokens = 5

    task = Short("sums", [Example("1 + 1?", "2")])
    assert gather(task).max_tokens == gather(task, "contains").max_tokens == 5
    assert gather(task, max_tokens=7).max_tokens == 7


def test_images_make_the_modality() -> None:
    picture = Image.new("RGB", (8, 8))
    shots = gather([Example("What?", "red", picture), ("Why?", "so")])
    assert shots.modality == "image"
    assert [len(prompt.images) for prompt in shots.prompts()] == [1, 0]


def test_what_has_happened_since_the_request_is_asked_too() -> None:
    steps = ({"role": "assistant", "content": "7"}, {"role": "user", "content": "And then?"})
    (prompt,) = gather([Example("1 + 6?", "8", steps=steps)]).prompts()
    assert [message["role"] for message in prompt.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ([], "no examples"),
        ("text", "give .request, answer. pairs"),
        (5, "give .request, answer. pairs"),
        ([("a",)], "give a pair"),
        ([("", "b")], "give a pair"),
        ([("a", 3)], "give a pair"),
        (["ab"], "give a pair"),
        ([SimpleNamespace(prompt="a", answer="b")], "give a pair"),
    ],
)
def test_unusable_examples(examples: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gather(examples)


def test_an_answer_that_every_reply_contains() -> None:
    with pytest.raises(ConfigError, match="every reply would contain it"):
        gather([("2 + 2?", " ")], "contains")


def test_an_unknown_reward() -> None:
    with pytest.raises(ConfigError, match=r"'exact', 'contains', .* or a function"):
        gather(PAIRS, "nearly")  # type: ignore[arg-type]
