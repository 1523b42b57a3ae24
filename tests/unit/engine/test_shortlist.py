"""Which tools a request shows."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.llm import T2LLM
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.engine.shortlist import most_tools, shortlist
from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt
from tests.models import build_text_model


def tool(name: str, description: str, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


CLOCK = tool("current_time", "Tells the time in a city.", city="string")
BUY = tool("buy", "Buys some pieces of an item.", item="string", quantity="integer")
POST = tool("send_message", "Sends a text to a person.", to="string", text="string")
SUN = tool("sunrise", "Tells when the sun rises.", place="string")
WALL = tool("paint_wall", "Paints a wall in a colour.", colour="string")
TOOLS = (CLOCK, BUY, POST, SUN, WALL)


@pytest.fixture(scope="module")
def similarity() -> ToolSimilarity:
    return ToolSimilarity(Encoder())


def prompt(text: str, *more: dict[str, Any], tools: tuple[Any, ...] = TOOLS) -> Prompt:
    return Prompt(({"role": "user", "content": text}, *more), (), tools)


def names(tools: Any) -> list[str]:
    return [one["function"]["name"] for one in tools]


def step(name: str, result: str) -> tuple[dict[str, Any], dict[str, Any]]:
    call = {"type": "function", "id": "1", "function": {"name": name, "arguments": {}}}
    return (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result, "tool_call_id": "1", "name": name},
    )


def test_the_tool_that_fits_best_is_shown(similarity: ToolSimilarity) -> None:
    for text, name in (
        ("What time is it in Rome?", "current_time"),
        ("I want the wall in green.", "paint_wall"),
        ("When does the sun rise in Oslo?", "sunrise"),
        ("Please call buy for me.", "buy"),
    ):
        found = shortlist(prompt(text), 1, similarity)
        assert names(found.shown) == [name]
        assert set(found.scores) == set(names(TOOLS))
        assert found.offered == 5
        assert max(found.scores, key=lambda one: found.scores[one]) == name
    two = shortlist(prompt("What time is it in Rome?"), 2, similarity)
    assert len(two.shown) == 2
    assert "current_time" in names(two.shown)
    assert two.to_dict()["shown"] == names(two.shown)


def test_a_tool_that_is_named_in_the_request_is_meant(similarity: ToolSimilarity) -> None:
    asked = "Use send_message for the time in Rome."
    assert names(shortlist(prompt(asked), 1, similarity).shown) == ["send_message"]


def test_without_a_limit_all_are_shown_and_none_is_ranked(similarity: ToolSimilarity) -> None:
    found = shortlist(prompt("hello"), None, similarity)
    assert found.shown == TOOLS
    assert not found.scores


def test_the_tool_that_must_be_called_is_shown_alone(similarity: ToolSimilarity) -> None:
    found = shortlist(prompt("hello"), 1, similarity, named="buy")
    assert names(found.shown) == ["buy"]


def test_where_no_tool_is_meant_none_is_shown(similarity: ToolSimilarity) -> None:
    none = shortlist(prompt("hello"), 1, similarity, wanted=lambda: False)
    assert none.shown == ()
    assert none.offered == 5
    assert shortlist(prompt("hello"), 1, similarity, wanted=lambda: True).shown
    # Within an errand the tools stay, and without a limit they are always shown.
    more = prompt("hello", *step("buy", "3"))
    assert shortlist(more, 1, similarity, wanted=lambda: False).shown
    assert shortlist(prompt("hello"), None, similarity, wanted=lambda: False).shown


def test_tools_that_were_called_stay(similarity: ToolSimilarity) -> None:
    asked = prompt("What time is it in Rome?", *step("buy", "3"))
    found = shortlist(asked, 1, similarity)
    assert names(found.shown) == ["current_time", "buy"]
    later = Prompt(
        (*asked.messages, {"role": "user", "content": "When does the sun rise?"}), (), TOOLS
    )
    assert names(shortlist(later, 1, similarity).shown) == ["sunrise"]


def test_a_request_before_its_image_in_a_message_of_its_own(similarity: ToolSimilarity) -> None:
    picture = {"role": "user", "content": [{"type": "image"}]}
    [asked] = prompt("What time is it in Rome?").messages
    found = shortlist(Prompt((asked, picture), (Image.new("RGB", (8, 8)),), TOOLS), 1, similarity)
    assert names(found.shown) == ["current_time"]


def test_what_the_base_model_asks_for() -> None:
    model = build_text_model()
    assert most_tools(model, "auto") is None
    assert most_tools(model, 3) == 3
    model.model.config.t2agent = {"max_tools": 2}
    assert most_tools(model, "auto") == 2
    assert most_tools(model, None) is None
    assert most_tools(T2Model.from_pretrained("t2-nano"), "auto") == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_tools": 0}, "max_tools is 0"),
        ({"max_tools": True}, "max_tools is True"),
        ({"max_tools": "many"}, "max_tools is 'many'"),
        ({"max_tools": 1.5}, "max_tools is 1.5"),
    ],
)
def test_unusable_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ChatT2(build_text_model(), dispatch="off", **options)


def test_the_shortlist_is_in_the_metadata() -> None:
    chat = ChatT2("t2-nano", max_tokens=48)
    bound = chat.bind_tools(list(TOOLS), max_tools=1)
    reply = bound.invoke("I want the wall in green.")
    told = reply.response_metadata["tools"]
    assert told["offered"] == 5
    assert told["shown"] == ["paint_wall"]
    assert told["scores"]["paint_wall"] == max(told["scores"].values())
    assert reply.tool_calls[0]["name"] == "paint_wall"
    streamed = list(bound.stream("I want the wall in green."))
    assert streamed[-1].response_metadata["tools"] == told
    four = chat.bind_tools(list(TOOLS)).invoke("I want the wall in green.")
    assert len(four.response_metadata["tools"]["shown"]) == 4
    everything = chat.bind_tools(list(TOOLS), max_tools=None).invoke("I want the wall in green.")
    assert len(everything.response_metadata["tools"]["shown"]) == 5
    plain = chat.bind_tools(list(TOOLS)).invoke("Hello!")
    assert plain.response_metadata["tools"]["shown"] == []
    assert not plain.tool_calls
    assert "tools" not in chat.invoke("Hello!").response_metadata


def test_tokens_are_counted_of_the_tools_that_are_shown() -> None:
    chat = ChatT2("t2-nano")
    request = "I want the wall in green."
    usage = chat.bind_tools(list(TOOLS)).invoke(request).usage_metadata
    counted = chat.get_num_tokens_from_messages([HumanMessage(request)], list(TOOLS))
    assert usage is not None
    assert counted == usage["input_tokens"]


def test_who_dispatches_one_call_also_says_whether_it_needs_tools() -> None:
    chat = ChatT2("t2-nano").bind_tools(list(TOOLS))
    assert not chat.invoke("Hello!").response_metadata["tools"]["shown"]
    off = chat.invoke("Hello!", dispatch="off").response_metadata["tools"]
    assert len(off["shown"]) == 4  # nobody told that none is meant
    chat = ChatT2("t2-nano", dispatch="off").bind_tools(list(TOOLS))
    assert not chat.invoke("Hello!", dispatch="embedding").response_metadata["tools"]["shown"]


def test_a_plain_completion_has_no_tools() -> None:
    with pytest.raises(ConfigError, match="max_tools"):
        T2LLM(build_text_model(), dispatch="off", max_tools=1)
    with pytest.raises(ConfigError, match="max_tools"):
        T2LLM(build_text_model(), dispatch="off").invoke("x", max_tools=1)
