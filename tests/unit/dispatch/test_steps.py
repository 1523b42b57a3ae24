"""Experts for a step of a conversation: chosen there, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from t2agent.dispatch import (
    ClassifierDispatcher,
    EmbeddingDispatcher,
    PromptDispatcher,
    Request,
)
from t2agent.dispatch.tool_requests import goes_on
from t2agent.engine.two_passes import request
from t2agent.experts.card import ExpertCard, Step
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import JSON_BY_SCHEMA
from tests.experts import random_expert
from tests.models import build_text_model


def tool(name: str, about: str, *keys: str) -> dict[str, Any]:
    given = {"type": "object", "properties": {key: {"type": "string"} for key in keys}}
    return {
        "type": "function",
        "function": {"name": name, "description": about, "parameters": given},
    }


WEATHER = tool("get_weather", "Tells the weather in a city", "city")
HOTEL = tool("book_hotel", "Books a room in a hotel", "city", "night")
TALK = ("I can't wait to see you", "Where is my parcel?", "The screen broke", "Play some jazz")
SETS = ("happy, sad", "billing, delivery, returns", "urgent, normal", "spam, ham, unsure")
EXAMPLES: dict[Step, tuple[str, ...]] = {
    "labels": tuple(
        wording.format(text=text, labels=labels)
        for text, labels in zip(TALK, SETS, strict=True)
        for wording in (
            "Classify the text as one of: {labels}.\n\nText: {text}",
            "{text}\n\nWhich of these labels fits the text: {labels}? Answer with the label.",
            "Pick the best match from [{labels}]: {text}",
            "Possible answers: {labels}\n\n{text}",
        )
    ),
    "calls": ("Book me a table in Oslo", "Find a flight to Rome", "Is it going to rain in Bonn?"),
    "results": ("I need a bus to Leeds", "Look for a film tonight"),
    "json": ("The bus leaves at nine for Rome.", "Ann Lee bought 30 shares on Monday."),
    "text": tuple(
        f"Tom has {a} apples and buys {b} more. How many apples has he now?"
        for a in range(2, 6)
        for b in (3, 7)
    ),
}
CALENDAR = tool("get_calendar", "Looks up what is in the user's calendar on a day", "day")
CITY = ({"name": "get_weather", "arguments": {"city": "Rome"}},)


@pytest.fixture(scope="module")
def dispatcher() -> EmbeddingDispatcher:
    return EmbeddingDispatcher(_cards())


def _cards() -> Any:
    from tests.unit.dispatch.conftest import Cards

    return Cards(*(ExpertCard(f"my-{s}", examples=e, step=s) for s, e in EXAMPLES.items()))


@pytest.mark.parametrize(
    ("asked", "step"),
    [
        (Request("What's the weather like in Rome?", 0, (WEATHER, HOTEL)), "calls"),
        (Request("What's the weather like in Rome?", 0, (WEATHER, HOTEL), CITY), "results"),
        (Request("Weather in Rome? Then book a hotel there.", 0, (WEATHER, HOTEL), CITY), "calls"),
        (Request("What's the weather in Rome and Oslo?", 0, (WEATHER,), CITY), "calls"),
        (Request("What's the weather in Rome?", 0, (WEATHER,), CITY, json=True), "json"),
        (Request("Ann flies to Rome on Monday.", json=True), "json"),
        (Request("Ann flies to Rome on Monday."), None),
        (Request("Is this a question or an order?\n\nOpen the door, please."), "labels"),
        (
            Request("You sort mails. Allowed answers: work, private\n\nMail: see you at ten"),
            "labels",
        ),
        (Request('Would you say "I loved every page" is good, bad or neither?'), "labels"),
        (Request("Are you a person or a machine?"), None),
        (Request("Eva has 4 pears and buys 9 more. How many pears has she now?"), "text"),
        (Request("Thank you, good night!"), None),
        (Request("Which gas do plants take in?"), None),
    ],
)
def test_the_step_decides(dispatcher: EmbeddingDispatcher, asked: Request, step: str) -> None:
    [found] = dispatcher.dispatch([asked])
    assert list(found.mixture.weights) == ([] if step is None else [f"my-{step}"])


def test_a_batch_stands_at_several_steps(dispatcher: EmbeddingDispatcher) -> None:
    asked = [
        Request("Ann flies to Rome on Monday.", json=True),
        Request("Eva has 4 pears and buys 9 more. How many pears has she now?"),
        Request("What's the weather like in Rome?", 0, (WEATHER, HOTEL), CITY),
        Request("Hello!"),
    ]
    alone = [list(dispatcher.dispatch([one])[0].mixture.weights) for one in asked]
    assert alone == [["my-json"], ["my-text"], ["my-results"], []]
    assert [list(one.mixture.weights) for one in dispatcher.dispatch(asked)] == alone


def test_strategies_that_ask_choose_among_the_experts_of_the_step() -> None:
    model = build_text_model()
    other = random_expert(model, "other")
    asked = {
        Request("Ann flies to Rome on Monday.", json=True): "json",
        Request("What's the weather like in Rome?", 0, (WEATHER, HOTEL)): "calls",
        Request("What's the weather like in Rome?", 0, (WEATHER, HOTEL), CITY): "results",
        Request("Weather in Rome? Then book a hotel there.", 0, (WEATHER, HOTEL), CITY): "calls",
        Request("Is this a question or an order?\n\nOpen the door, please."): "labels",
    }
    for dispatcher in (
        PromptDispatcher(model, _cards()),
        ClassifierDispatcher(model, _cards(), expert=other),
    ):
        found = dispatcher.dispatch([*asked, Request("Ann flies to Rome on Monday.")])
        assert [dict(one.mixture.weights) for one in found[:-1]] == [
            {f"my-{step}": 1.0} for step in asked.values()
        ]
        assert set(found[-1].scores) == {"my-text"}  # the model decides between it and "others"


def test_of_several_experts_for_a_step_their_examples_decide(cards: Any) -> None:
    bills = ("Invoice 31: two chairs, 90 euros", "Your bill of 12 May is 40 euros")
    people = ("Ann Lee, born in Leeds, is a nurse", "Bob Ray is a teacher from York")
    dispatcher = EmbeddingDispatcher(
        cards(ExpertCard("bills", examples=bills, step="json"),
              ExpertCard("people", examples=people, step="json"))
    )  # fmt: skip
    asked = [Request(text, json=True) for text in ("Bill 7: a lamp, 15 euros", "Eva Orr is a cook")]
    found = [list(one.mixture.weights) for one in dispatcher.dispatch(asked)]
    assert found == [["bills"], ["people"]]


def test_without_an_expert_for_the_step_a_request_is_one_of_text(cards: Any) -> None:
    dispatcher = EmbeddingDispatcher(cards(ExpertCard("sums", examples=EXAMPLES["text"])))
    sums = "Eva has 4 pears and buys 9 more. How many pears has she now?"
    for asked in (Request(sums, json=True), Request(sums, 0, (WEATHER,), CITY)):
        assert list(dispatcher.dispatch([asked])[0].mixture.weights) == ["sums"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("What's the weather in Rome, Lima and Oslo?", True),
        ("Rome and Oslo: which is warmer?", True),
        ("What's the weather in Rome, Italy?", False),
        ("How warm is it in Rome and is it windy?", False),
        ("Find a hotel and tell me the weather in Rome", True),
    ],
)
def test_another_call_is_wanted(dispatcher: EmbeddingDispatcher, text: str, wanted: bool) -> None:
    asked = Request(text, 0, (WEATHER, HOTEL), CITY)
    assert goes_on(asked, dispatcher.tool_similarity) is wanted


def test_a_part_that_asks_of_something_else_wants_another_call(
    dispatcher: EmbeddingDispatcher,
) -> None:
    texts = {
        "weather in Rome, and what do I have on Monday?": True,
        "I fly to Rome on Monday. What's the weather there?": False,
        "What's the weather in Rome? I hope to see Ann there.": False,
    }
    for text, wanted in texts.items():
        asked = Request(text, 0, (WEATHER, CALENDAR), CITY)
        assert goes_on(asked, dispatcher.tool_similarity) is wanted


def test_a_prompt_tells_what_was_called_and_whether_json_is_wanted() -> None:
    system = {"role": "system", "content": "Be brief.\n\n" + JSON_BY_SCHEMA + "{}"}
    user = {"role": "user", "content": "What's the weather in Rome?"}
    call = {"id": "1", "type": "function", "function": dict(CITY[0])}
    calling = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": "sunny", "tool_call_id": "1"}
    assert request(Prompt((system, user), tools=(WEATHER,))).json
    assert request(Prompt((user, calling), tools=(WEATHER,))).called == ()
    after = request(Prompt((user, calling, result), tools=(WEATHER,)))
    assert (after.called, after.json) == (CITY, False)
    again = request(Prompt((user, calling, result, user), tools=(WEATHER,)))
    assert again.called == ()  # the user spoke since
