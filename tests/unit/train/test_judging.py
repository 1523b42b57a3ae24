from __future__ import annotations

import json

import pytest

from t2agent.models.calls import judged_marks, readable
from t2agent.models.model import T2Model
from t2agent.models.prompt import tool_format
from t2agent.train import Example, ExampleTask
from t2agent.train.evaluation import accuracy
from t2agent.train.judging import judged, says_everything
from tests.models import tiny_text_model

TOOLS = ({"type": "function", "function": {"name": "clock", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string"}}}}},)  # fmt: skip
ASKED = Example("Time?", "", tools=TOOLS, calls=({"name": "clock", "arguments": {"zone": "CET"}},))


@pytest.fixture(scope="module")
def model() -> T2Model:
    return tiny_text_model()


def test_calls_are_read_by_the_models_format(model: T2Model) -> None:
    text = tool_format(model).write([("clock", {"zone": "cet"})])
    read = readable(model, ASKED, f"One moment. {text}")
    assert json.loads(read) == [{"name": "clock", "arguments": {"zone": "cet"}}]
    assert json.loads(readable(model, ASKED, text[:-12]))[0]["arguments"] is None  # cut short
    for said in ("It is noon.", tool_format(model).write([("sundial", {})])):
        assert readable(model, ASKED, said) == said
    assert readable(model, Example("Time?", "x"), text) == text
    assert judged_marks(model, [Example("Time?", "x")]) == frozenset()

    task = ExampleTask("times", [ASKED])
    replies = [text, text[:-12], "noon", read]
    found = judged(model, task, replies, [ASKED] * 4)
    assert found[0] == 1.0
    assert -1.0 < found[1] < 0
    # The list that rewards read is no call where the model writes it itself: nothing runs it.
    assert found[2] < found[3] < 0


def test_accuracy_counts_full_rewards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from t2agent.train import evaluation

    example = Example("?", '{"a": 1, "b": 2, "c": 3}')
    replies = [example.answer, '{"a": 1, "b": 2, "c": 4}', "no", example.answer]
    monkeypatch.setattr(evaluation, "replies", lambda *_: replies)
    task = ExampleTask("t", [example])
    assert judged(None, task, replies, [example] * 4)[1] > 0  # type: ignore[arg-type]
    assert accuracy(None, task, [example] * 4) == 0.5  # type: ignore[arg-type]


def test_replies_that_say_everything_are_told() -> None:
    examples = [Example(str(n), "good" if n % 2 else "bad") for n in range(10)]
    loose = ExampleTask("t", examples, "contains")
    both = says_everything(loose, ["good or bad"] * 10, examples)
    assert both is not None
    assert "10 of 10 replies have several" in both
    assert "`contains` can be earned by saying everything" in both
    long = says_everything(loose, ["so " * 29 + "good"] * 10, examples)
    assert long is not None
    assert "30 times as long as the answers" in long
    assert says_everything(loose, ["It is good."] * 10, examples) is None
    assert says_everything(ExampleTask("t", examples), ["good or bad"] * 10, examples) is None
