"""Options of calls, and what of them is sent, with t2-nano at the other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image
from pydantic import BaseModel

from t2agent import ChatT2, ChatT2Remote
from t2agent.dispatch import Decision, Request
from t2agent.errors import (
    ConfigError,
    EndpointError,
    ExpertNotFoundError,
)
from t2agent.experts.mixture import Mixture
from t2agent.toolbox import load_tools
from tests.openai_server import KEY, OpenAIServer
from tests.remote_models import MATH, block, joined, remote


def test_the_caller_chooses(chat: ChatT2Remote, server: OpenAIServer) -> None:
    calls: list[tuple[dict[str, Any], str, str]] = [
        ({"expert": "code"}, "code", "given"),
        ({"expert": chat.router.registry.get("code")}, "code", "given"),
        ({"mixture": {"json": 1.0}}, "json", "given"),
        ({"mixture": None}, "t2-nano", "given"),
        ({"dispatch": "off"}, "t2-nano", "off"),
        ({"dispatch": None}, "t2-nano", "off"),
        ({"dispatch": Always("reasoning")}, "reasoning", "always"),
        ({"model": "read"}, "read", "given"),
        ({"model": "t2-nano"}, "math", "embedding"),
    ]
    for options, model, strategy in calls:
        for reply in (chat.invoke(MATH, **options), chat.bind(**options).invoke(MATH)):
            assert reply.response_metadata["served"]["model"] == model
            assert reply.response_metadata["dispatch"]["strategy"] == strategy
            assert server.requests[-1]["model"] == model
    fixed = remote(server, expert="chart", dispatch="off")
    assert fixed.invoke(MATH).response_metadata["served"]["model"] == "chart"
    assert fixed.route(MATH, dispatch="embedding").model == "math"
    with pytest.raises(ExpertNotFoundError, match="'nobody' is not served"):
        chat.invoke(MATH, expert="nobody")
    with pytest.raises(ConfigError, match="give one of them"):
        chat.invoke(MATH, expert="math", dispatch="off")
    with pytest.raises(ConfigError, match="give one of them"):
        chat.invoke(MATH, expert="math", model="code")
    with pytest.raises(EndpointError, match="The model `nobody` does not exist"):
        chat.invoke(MATH, model="nobody")


class Always:
    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Request] = []

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        self.seen += requests
        return [Decision(Mixture({self.name: 1.0}), "always") for _ in requests]


def test_what_the_dispatcher_sees(chat: ChatT2Remote) -> None:
    dispatcher = Always("math")
    messages = [
        HumanMessage(["first", block(Image.new("RGB", (8, 8)))]),
        AIMessage("yes"),
        HumanMessage([{"type": "text", "text": "second"}, {"type": "text", "text": " part"}]),
        AIMessage("", tool_calls=[{"name": "now", "args": {}, "id": "1"}]),
    ]
    route = chat.route(messages, dispatch=dispatcher, tools=[TOOL])
    assert route.model == "math"
    assert dispatcher.seen == [Request("second part", 1, (TOOL,))]


def now() -> str:
    """The time."""
    return "noon"


NOTHING = {"type": "object", "properties": {}}
TOOL = {
    "type": "function",
    "function": {"name": "now", "description": "The time.", "parameters": NOTHING},
}


def test_what_is_sent(server: OpenAIServer) -> None:
    chat = remote(server, api_key=KEY, default_headers={"X-Team": "7"}, top_p=None, seed=3)
    chat.invoke(MATH, stop="33", extra_body={"top_k": 4}, max_tokens=9)
    assert server.requests[-1] == {
        "model": "math",
        "messages": [{"role": "user", "content": MATH}],
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 3,
        "stop": ["33"],
        "top_k": 4,
    }
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert server.headers[-1]["X-Team"] == "7"
    list(chat.stream(MATH))
    assert server.requests[-1]["stream_options"] == {"include_usage": True}
    silent = list(chat.stream(MATH, stream_usage=False))
    assert "stream_options" not in server.requests[-1]
    assert joined(silent).usage_metadata is None


def test_a_conversation_with_tools_is_sent_in_openais_form(
    chat: ChatT2Remote, server: OpenAIServer
) -> None:
    call = {"name": "now", "args": {"zone": "ä"}, "id": "c1"}
    messages: list[Any] = [
        ("system", "Be brief."),
        ("user", [{"type": "text", "text": "When? "}, {"type": "text", "text": "Now?"}]),
        AIMessage([{"type": "thinking", "thinking": "hm"}], tool_calls=[call]),
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ("user", ["Look", block(Image.new("RGB", (8, 8)))]),
    ]
    chat.invoke(messages, expert="tools", tools=[TOOL], tool_choice="now")
    sent = server.requests[-1]
    *texts, looked = sent["messages"]
    arguments = '{"zone": "\\u00e4"}'
    function = {"name": "now", "arguments": arguments}
    calls = [{"type": "function", "id": "c1", "function": function}]
    assert texts == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When? Now?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "noon", "tool_call_id": "c1"},
    ]
    assert looked["content"][0] == {"type": "text", "text": "Look"}
    assert looked["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert sent["tools"] == [TOOL]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "now"}}


def test_choices_of_tools(chat: ChatT2Remote, server: OpenAIServer) -> None:
    for given, sent in (("any", "required"), (None, "auto"), ("none", None), (False, None)):
        chat.bind_tools([now], tool_choice=given, parallel_tool_calls=False).invoke(MATH)
        assert server.requests[-1].get("tool_choice") == sent
        assert ("tools" in server.requests[-1]) is (sent is not None)
        assert server.requests[-1].get("parallel_tool_calls") is (None if sent is None else False)


def test_tools_and_structured_output(local: ChatT2, chat: ChatT2Remote) -> None:
    class Number(BaseModel):
        """The result."""

        answer: int

    [calculator] = load_tools("calculator")
    for model in (chat, local):
        bound = model.bind_tools([calculator], tool_choice="calculator")
        replies = [bound.invoke("What is 54 * 37?"), joined(list(bound.stream("What is 54 * 37?")))]
        for reply in replies:
            [call] = reply.tool_calls
            assert (call["name"], call["args"]) == ("calculator", {"expression": "54 * 37"})
            assert call["id"]
            assert reply.response_metadata["finish_reason"] == "tool_calls"
    for method in ("json_schema", "function_calling"):
        found = chat.with_structured_output(Number, method=method).invoke(MATH)
        assert found == local.with_structured_output(Number, method=method).invoke(MATH)
