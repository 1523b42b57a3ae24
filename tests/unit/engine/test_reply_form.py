from __future__ import annotations

import asyncio
from typing import Any

import pytest

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.replies import ReplyReader
from t2agent.engine.reply_form import ReplyForm, chosen
from t2agent.errors import ConfigError
from t2agent.models.generate import Prompt
from t2agent.models.prompt import open_thoughts
from t2agent.models.template import ChatTemplate
from t2agent.replies.format import GENERAL
from t2agent.replies.parsing import ReplyParser
from tests.unit.replies.families import FAMILIES, given_templates, model_with

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "auto"), ("auto", "auto"), ({"type": "auto"}, "auto"),
        (False, "none"), ("none", "none"), ({"type": "none"}, "none"),
        (True, "required"), ("any", "required"), ("required", "required"),
        ({"type": "any"}, "required"), ({"type": "required"}, "required"),
        ("look", "look"), ({"type": "tool", "name": "look"}, "look"),
        ({"type": "function", "function": {"name": "look"}}, "look"),
        ({"type": "function", "name": "look"}, "look"), ({"name": "look"}, "look"),
    ],
)  # fmt: skip
def test_tool_choices(given: Any, found: str) -> None:
    assert chosen(given, ["look", "other"]) == found


@pytest.mark.parametrize("given", ["any", True, "look", {"type": "any"}])
def test_a_choice_without_tools(given: Any) -> None:
    with pytest.raises(ConfigError, match="tool"):
        chosen(given, [])


@pytest.mark.parametrize(
    "given",
    [
        {"tools": ["look"]}, {"tools": [{"type": "function"}]}, {"tools": [TOOL, TOOL]},
        {"response_format": "json"}, {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "xml"}}, {"tools": [{"function": {"name": ""}}]},
    ],
)  # fmt: skip
def test_options_of_another_form(given: Any) -> None:
    with pytest.raises(ConfigError):
        ReplyForm.of(given)


def test_a_response_format_of_text_is_none() -> None:
    assert ReplyForm.of({"response_format": {"type": "text"}}) == ReplyForm()
    assert ReplyForm.of({"response_format": {"type": "json_object"}}).schema is True
    assert ReplyForm.of({"response_format": FORMAT}).schema == SCHEMA


def test_no_tools_are_shown_where_none_may_be_called() -> None:
    form = ReplyForm.of({"tools": [TOOL], "tool_choice": "none"})
    assert form.prompt(Prompt.user("Hi")).tools == ()
    assert ReplyForm.of({"tools": [TOOL]}).prompt(Prompt.user("Hi")).tools == (TOOL,)


def test_thoughts_are_no_part_of_json() -> None:
    text = 'First, {"x": 0}?</think>\n\n{"x": 1}'
    assert ReplyReader(None, "</think>").message(text).content == '{"x": 1}'
    for size in range(len(text)):
        reader = ReplyReader(None, "</think>")
        pieces = [
            *reader.chunks(text[:size]),
            *reader.chunks(text[size:]),
            *reader.chunks("", last=True),
        ]
        assert "".join(str(one.content) for one in pieces) == '{"x": 1}'


def test_calls_after_thoughts_of_the_reply() -> None:
    text = "<think>\nI look.\n</think>\n\n" + GENERAL.write([("look", {"x": 1})])
    message = ReplyReader(ReplyParser(GENERAL, [TOOL])).message(text)
    assert [call["args"] for call in message.tool_calls] == [{"x": 1}]
    assert message.content == "<think>\nI look.\n</think>"


def test_a_prompt_that_opens_thoughts() -> None:
    model = model_with(FAMILIES["minimax-m2"], real=False)
    prompt = Prompt.user("Hi")
    assert open_thoughts(model, prompt) == "</think>"
    chat = ChatT2(model, dispatch="off", temperature=1.0, max_tokens=300)
    for seed in range(3):
        call = chat.bind_tools([TOOL], tool_choice="any").invoke("Hi", seed=seed)
        assert call.tool_calls
        assert "</think>" in call.content
        found = chat.bind(response_format=FORMAT).invoke("Hi", seed=seed)
        assert found.content.startswith("{")
        pieces = list(chat.bind(response_format=FORMAT).stream("Hi", seed=seed))
        assert "".join(str(one.content) for one in pieces) == found.content


@pytest.mark.parametrize(
    ("end", "thoughts"),
    [
        ("<think>\n", "</think>"), ("<think>", "</think>"), ("<thinking>\n\n", "</thinking>"),
        ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|inner_prefix|>", None),
        ("<think>\n\n</think>\n\n", None), ("assistant\n", None),
        ("<|channel>thought\n<channel|>", None),
    ],
)  # fmt: skip
def test_what_ends_open_thoughts(end: str, thoughts: str | None) -> None:
    assert ChatTemplate.open_thoughts("<|assistant|>" + end) == thoughts


@pytest.mark.parametrize("name", given_templates())
def test_thinking_families_think_only_where_the_prompt_opens_it(name: str) -> None:
    """Qwen3, SmolLM3, DeepSeek and Granite leave it to the model: what is forced comes at once."""
    model = model_with(given_templates()[name])
    assert open_thoughts(model, Prompt.user("Hi")) is None


def test_special_tokens_of_calls_stay_in_the_text() -> None:
    model = model_with(FAMILIES["apertus"], real=False)
    assert ReplyForm.of({"tools": [TOOL]}).marks(model) == frozenset()
    assert ReplyForm().marks(model) == frozenset()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"tools": [TOOL]},
        {"response_format": FORMAT},
        {"tools": [TOOL], "response_format": FORMAT},
    ],
)
def test_a_request_is_rendered_once(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constraint, its input and what of its reply is thoughts all come from one text."""
    model = model_with(FAMILIES["minimax-m2"], real=False)
    chat = ChatT2(model, dispatch="off", temperature=1.0, max_tokens=40).bind(seed=1, **asked)
    replies = [chat.invoke("Hi").content]
    render, count = ChatTemplate.render, [0]

    def counted(*args: Any) -> str:
        count[0] += 1
        return render(*args)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    replies.append(chat.invoke("Hi").content)
    assert count == [1]
    replies.append("".join(str(piece.content) for piece in chat.stream("Hi")))
    assert count == [2]
    replies.append(asyncio.run(chat.ainvoke("Hi")).content)
    assert count == [3]
    assert len(set(map(str, replies))) == 1
    chat.batch(["Hi", "You", "They"])
    assert count == [6]
