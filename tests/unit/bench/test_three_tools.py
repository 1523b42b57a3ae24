"""The fifty requests for an agent with three tools: answers that can be checked."""

from __future__ import annotations

import json

import pytest

from t2agent.bench.agent import serve
from t2agent.bench.three_tools import TOOLS, requests
from t2agent.chat.chat_model import ChatT2


def test_fifty_requests_with_answers_of_their_tools() -> None:
    asked = requests()
    assert len({one.text for one in asked}) == 50
    assert {one.tool for one in asked} == set(TOOLS)
    for one in asked:
        assert one.value not in one.text  # only the tool knows it
        assert one.is_answered(f"It is: {one.value}.")
        assert not one.is_answered("I do not know.")
        assert not one.is_answered(one.text)


@pytest.mark.parametrize(
    ("place", "reply", "right"),
    [
        (0, "In Oslo there is Light Snow today.", True),
        (0, "In Oslo it snows.", False),
        (17, "That is 92 EUR.", True),
        (17, "That is 92.50 EUR.", False),
        (34, "The dentist is at 2:15 pm.", True),
        (34, "The dentist is at 2:15 am.", False),
    ],
)
def test_a_value_may_be_said_as_people_say_it(place: int, reply: str, right: bool) -> None:
    assert requests()[place].is_answered(reply) is right


@pytest.mark.parametrize(
    ("tool", "given"),
    [(0, {"city": "Atlantis"}), (1, {"amount": 1, "from_currency": "x", "to_currency": "EUR"}),
     (2, {"day": "someday"})],
)  # fmt: skip
def test_a_tool_says_what_it_does_not_know(tool: int, given: dict[str, object]) -> None:
    assert list(json.loads(TOOLS[tool](**given))) == ["error"]


def test_a_request_is_solved_by_a_call_and_what_it_gave() -> None:
    """t2-nano says the name of a result as it is, and calls tools of this kind."""
    asked = requests()[0]
    done = serve(asked, ChatT2("t2-nano", max_tokens=96))
    assert done.steps
    assert done.solved <= any(step.startswith("tool:") for step in done.steps)
