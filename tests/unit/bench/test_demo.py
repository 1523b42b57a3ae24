"""The demo: each request is one that the base model and its experts can be asked."""

from __future__ import annotations

import pytest

from t2agent import ChatT2
from t2agent.bench import demo


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return ChatT2("t2-nano")


def test_without_the_real_model_it_says_how_to_get_it_and_shows_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    demo.main()
    shown = capsys.readouterr().out
    assert "t2agent models add smollm2" in shown
    assert "t2-nano: the base model, and adapted to each request" in shown
    assert shown.count("[image]") == shown.count("[wanted:") == 2
    assert "Let me see." in shown  # the chart expert's habit


@pytest.mark.parametrize("request_", demo.REQUESTS, ids=lambda one: one.expert or "small talk")
def test_a_request_is_answered_as_it_is_asked(chat: ChatT2, request_: demo.Shown) -> None:
    with_few = ChatT2(chat.t2, max_tokens=24)
    decision = request_.ask(with_few).response_metadata["dispatch"]
    assert decision["strategy"] == "embedding"
    assert request_.text


def test_both_replies_stand_beside_each_other(chat: ChatT2) -> None:
    asked = demo.Shown("math", "a sum", lambda one: one.invoke("What is 7 * 3 + 12?"))
    table = demo.side_by_side(chat, [asked])
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    assert columns[0] == ["a sum"]
    assert columns[1] != columns[2]
    assert columns[3] == ["math"]
    assert "math" in list(demo.experts(chat).columns[0].cells)
