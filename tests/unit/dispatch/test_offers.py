"""Tools on offer as dispatch sees them."""

from __future__ import annotations

from typing import Any

import pytest

from t2agent.dispatch import EmbeddingDispatcher, RefinedDispatcher, Request, ToolAware
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.tool_offers import (
    RanksTools,
    ToolSimilarity,
    calls_tools,
    offer,
    without_offer,
)
from t2agent.engine.two_passes import request
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.models.generate import Prompt


def tool(name: str, description: str, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    parameters = {"type": "object", "properties": properties}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


CLOCK = tool("current_time", "Tells the time in a city.", city="string")
BUY = tool("buy", "Buys things.", item="string", quantity="integer")


def test_the_text_of_an_offer() -> None:
    assert offer([CLOCK, BUY]) == (
        "Tools:\n- current_time(city: string): Tells the time in a city.\n"
        "- buy(item: string, quantity: integer): Buys things.\n\n"
    )
    assert offer([]) == ""
    assert offer([{"type": "function", "function": {"name": "bare"}}]) == "Tools:\n- bare(): \n\n"
    strange = {"name": "odd", "parameters": {"properties": {"x": True, "y": {"anyOf": []}}}}
    assert "odd(x: any, y: any)" in offer([{"type": "function", "function": strange}])
    assert offer([CLOCK] * 9).count("current_time") == 4  # an encoder reads the beginning alone


def test_which_experts_call_tools() -> None:
    asked = offer([CLOCK]) + "What time is it in Rome?"
    assert calls_tools([asked, asked, "hello"])
    assert not calls_tools([asked, "hello", "good morning"])
    assert not calls_tools([])


def test_the_question_without_the_offer() -> None:
    assert without_offer(offer([CLOCK]) + "What time is it?") == "What time is it?"
    for text in ("What time is it?", "Tools:\n\n", "Tools: many\n\nhello", ""):
        assert without_offer(text) == text


def test_the_offer_is_in_the_request_at_every_step() -> None:
    user = {"role": "user", "content": "What time is it in Rome?"}
    assert request(Prompt((user,), (), (CLOCK,))).tools == (CLOCK,)
    call = {"role": "assistant", "content": "", "tool_calls": []}
    result = {"role": "tool", "content": "noon", "tool_call_id": "1"}
    after = request(Prompt((user, call, result), (), (CLOCK,)))
    assert (after.text, after.tools) == ("What time is it in Rome?", (CLOCK,))
    assert request(Prompt((user,))).tools == ()


SUMS = [f"What is {a} + {b}?" for a in range(3, 9) for b in range(2, 6)]
LEARNED = {
    "sums": SUMS,
    "calls": [offer([CLOCK]) + f"What time is it in {city}?" for city in ("Rome", "Oslo", "Lima")]
    + [offer([BUY]) + f"Buy {n} apples." for n in range(2, 14)],
}


@pytest.fixture(scope="module")
def dispatcher() -> EmbeddingDispatcher:
    return EmbeddingDispatcher().fit(LEARNED)


@pytest.mark.parametrize(
    ("text", "tools", "wanted"),
    [
        ("What time is it in Cairo?", (CLOCK, BUY), True),
        ("Buy 30 pears.", (BUY,), True),
        ("What is 4 + 5?", (CLOCK,), False),  # another expert's, and no tool comes close
        ("What is 4 + 5? Use current_time.", (CLOCK,), True),  # it is named
        ("Thank you, good night.", (BUY,), False),
        ("", (CLOCK,), False),
        ("What time is it in Cairo?", (), False),
    ],
)
def test_whether_a_tool_is_meant(
    dispatcher: EmbeddingDispatcher, text: str, tools: tuple[Any, ...], wanted: bool
) -> None:
    asked = Request(text, 0, tools)
    assert dispatcher.wants_tools(asked) is wanted
    [found] = dispatcher.dispatch([asked])
    if tools:
        assert (set(found.mixture.weights) == {"calls"}) is wanted
        assert found.in_scope or not wanted


def test_the_refined_strategy_knows_which_tools_are_meant(cards) -> None:
    own = [ExpertCard(name, examples=tuple(texts)) for name, texts in LEARNED.items()]
    refined = RefinedDispatcher(cards(*own))
    assert isinstance(refined, ToolAware)
    assert isinstance(refined, RanksTools)
    assert refined.wants_tools(Request("What time is it in Cairo?", 0, (CLOCK, BUY)))
    assert not refined.wants_tools(Request("What is 4 + 5?", 0, (CLOCK,)))


def test_where_no_tool_is_meant_the_offer_changes_nothing(dispatcher: EmbeddingDispatcher) -> None:
    with_tools, without = dispatcher.dispatch(
        [Request("What is 4 + 5?", 0, (CLOCK,)), Request("What is 4 + 5?")]
    )
    assert with_tools.scores == without.scores
    assert set(with_tools.mixture.weights) == {"sums"}


def test_where_no_expert_calls_tools_nobody_knows() -> None:
    colours = ["Which colour is the sky?", "Name a red fruit."] * 6
    plain = EmbeddingDispatcher().fit({"sums": SUMS, "colours": colours})
    assert plain.wants_tools(Request("What is 4 + 5?", 0, (CLOCK,)))
    first, second = plain.dispatch(
        [Request("What is 4 + 5?", 0, (CLOCK,)), Request("What is 4 + 5?")]
    )
    assert (first.mixture, first.scores) == (second.mixture, second.scores)


def test_what_is_learned_anew_counts_for_offers_too(dispatcher: EmbeddingDispatcher) -> None:
    own = EmbeddingDispatcher().fit(LEARNED)
    song = Request("Sing the song of the sea.", 0, (CLOCK,))
    assert not own.wants_tools(song)
    own.add("calls", [offer([CLOCK]) + f"Sing the song of the {w}." for w in ("sea", "sky", "sun")])
    assert own.wants_tools(song)


def test_similarity_of_tools() -> None:
    similarity = ToolSimilarity(Encoder())
    clock, buy = similarity.of("What is the time in Paris?", [CLOCK, BUY])
    assert -1.0 <= buy < clock <= 1.0
    assert similarity.of("Use current_time", [CLOCK]) == [1.0]
    assert similarity.of("hello", []) == []
    bare = {"type": "function", "function": {"name": "x", "parameters": None}}
    assert len(similarity.of("hello", [bare])) == 1


def test_an_offer_is_a_tuple_of_tools() -> None:
    with pytest.raises(ConfigError, match="tools is a list"):
        Request("hello", 0, [])  # type: ignore[arg-type]
    assert hash(Request("hello", 0, (CLOCK,))) == hash(Request("hello", 0, (CLOCK,)))
