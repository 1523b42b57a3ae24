"""What a template shows of a conversation with tools: all of it, in order, whatever the family."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from t2agent.chat.messages import to_prompt
from t2agent.errors import ConfigError
from t2agent.images import ImagePolicy
from t2agent.models.generate import Prompt, encode
from t2agent.models.template import ChatTemplate
from tests.models import build_tokenizer, build_vision_model
from tests.unit.replies.families import FAMILIES, all_templates, given_templates

SHOWN = {name: text for name, text in all_templates().items() if name not in ("silent", "headers")}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather_of",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["town"],
        },
    },
}


def call(town: str, number: str, **more: Any) -> Any:
    return {"name": "weather_of", "args": {"town": town, **more}, "id": number, "type": "tool_call"}


TALK: list[BaseMessage] = [
    HumanMessage("Weather in Rome and Oslo?"),
    AIMessage("", tool_calls=[call("Rome", "call_1", days=3), call("Oslo", "call_2")]),
    ToolMessage("sunny there", tool_call_id="call_1"),
    ToolMessage([{"type": "text", "text": "rain here"}], tool_call_id="call_2", status="error"),
]


def rendered(template: str, messages: list[BaseMessage], tools: tuple[Any, ...] = (TOOL,)) -> str:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    prompt = to_prompt(messages, ImagePolicy())
    return ChatTemplate(tokenizer).render(prompt.messages, "\ue000", tools)


def in_order(text: str, *parts: str) -> None:
    place = 0
    for part in parts:
        found = text.find(part, place)
        assert found >= 0, (part, text)
        place = found + len(part)


@pytest.mark.parametrize("name", SHOWN)
def test_tools_calls_and_results_are_shown(name: str) -> None:
    text = rendered(SHOWN[name], TALK)
    assert "weather_of" in text
    last = "[AVAILABLE_TOOLS]" in text  # Mistral's are before the last request
    in_order(text, *(["Weather in Rome"] if last else ["weather_of", "Weather in Rome"]))
    form = tool_form(SHOWN[name])
    if form.parallel:
        in_order(text, "Weather in Rome", "Rome", "Oslo", "sunny there", "rain here")
    else:  # each call before its result
        in_order(text, "Weather in Rome", "Rome", "sunny there", "Oslo", "rain here")
    assert "'type'" not in text[text.index("sunny there") :]
    assert '"type": "text"' not in text


@pytest.mark.parametrize("name", SHOWN)
def test_a_conversation_goes_on(name: str) -> None:
    talk = [
        SystemMessage("Be kind."),
        *TALK,
        AIMessage("Sunny, and rain."),
        HumanMessage("Thanks. And now?"),
        AIMessage("I look.", tool_calls=[call("Bern", "call_3")]),
        ToolMessage("fog now", tool_call_id="call_3"),
    ]
    text = rendered(SHOWN[name], talk)
    in_order(text, "sunny there", "Sunny, and rain.", "And now?", "Bern", "fog now")


@pytest.mark.parametrize("name", SHOWN)
def test_calls_that_were_made_are_shown_without_tools_on_offer(name: str) -> None:
    in_order(rendered(SHOWN[name], TALK, ()), "Rome", "sunny there")


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_of_no_call(name: str) -> None:
    text = rendered(SHOWN[name], [HumanMessage("Hi"), ToolMessage("lost one", tool_call_id="z")])
    assert "lost one" in text


@pytest.mark.parametrize("name", SHOWN)
def test_calls_without_results_and_arguments_of_all_kinds(name: str) -> None:
    odd = {"town": 'a "quoted" näme\n', "list": [1, {"x": None}], "flag": True, "n": -1.5}
    number = "toolu_01A09q90qw90lq917835lq9"
    asked = AIMessage("", tool_calls=[{**call("", number), "args": odd}])
    text = rendered(SHOWN[name], [HumanMessage("Hi"), asked])
    assert "flag" in text
    assert "true" in text[text.index("flag") :]  # JSON, not Python
    empty = AIMessage("", tool_calls=[{**call("", number), "args": {}}])
    assert "weather_of" in rendered(SHOWN[name], [HumanMessage("Hi"), empty], ())


def test_a_tool_of_which_little_is_told() -> None:
    bare = {"type": "function", "function": {"name": "bare_tool"}}
    untold = {
        "type": "function",
        "function": {
            "name": "untold",
            "description": "x",
            "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
        },
    }
    for text in all_templates().values():
        shown = rendered(text, [HumanMessage("Hi")], (bare, untold))
        assert "bare_tool" in shown or text == "Hello" or "### Instruction" in text


def test_ids_are_such_as_the_template_takes() -> None:
    kimi = rendered(FAMILIES["kimi-k2"], TALK)
    in_order(kimi, "functions.weather_of:0", "functions.weather_of:1")
    in_order(kimi, "## Return of functions.weather_of:0\nsunny", "functions.weather_of:1\nrain")
    mistral = next((t for n, t in given_templates().items() if "Mistral" in n), None)
    if mistral is None:
        pytest.skip("the shared data sets are not beside the repository")
    text = rendered(mistral, TALK)
    called = [part.split('"')[0] for part in text.split('"id": "')[1:]]
    answered = [part.split('"')[0] for part in text.split('"call_id": "')[1:]]
    assert called == answered
    assert all(len(one) == 9 and one.isalnum() for one in called)
    assert len(set(called)) == 2


def test_messages_of_one_role_side_by_side() -> None:
    talk: list[BaseMessage] = [HumanMessage("one"), HumanMessage("two")]
    in_order(rendered(FAMILIES["alternating"], talk), "one", "two")
    with pytest.raises(ConfigError, match="in turn"):
        rendered(FAMILIES["alternating"], [AIMessage("first")])


def test_a_system_message_that_is_dropped_goes_to_the_user() -> None:
    talk: list[BaseMessage] = [SystemMessage("Be kind."), HumanMessage("Hi")]
    in_order(rendered(FAMILIES["headers"], talk, ()), "### Instruction:\nBe kind.\n\nHi")
    in_order(rendered(FAMILIES["headers"], TALK), "weather_of", "Rome", "sunny there")


def test_a_template_without_tools_shows_their_signatures() -> None:
    text = rendered(FAMILIES["without-tools"], TALK)
    shown = text[text.index("<tools>") + 7 : text.index("</tools>")].strip()
    assert shown == "// Tells the weather.\nweather_of(town: string, days?: integer)"


def tool_form(template: str) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer).tool_format


def image() -> dict[str, str]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": encoded, "mime_type": "image/png"}


SEEN: list[BaseMessage] = [
    HumanMessage([image(), {"type": "text", "text": "Crop it"}]),
    AIMessage("", tool_calls=[call("a", "call_1"), call("b", "call_2")]),
    ToolMessage([{"type": "text", "text": "first crop"}, image()], tool_call_id="call_1"),
    ToolMessage([image(), {"type": "text", "text": "second crop"}], tool_call_id="call_2"),
    HumanMessage("Which is red?"),
]


@pytest.mark.parametrize("family", ["own", "parts", "strings", "alternating"])
def test_images_of_results_have_their_places(family: str) -> None:
    """Wherever the template puts results, there are as many marks of images as images."""
    model = build_vision_model()
    own = model.processor.chat_template
    templates = {"own": own, "strings": FAMILIES["apertus"], **FAMILIES}
    model.processor.chat_template = templates[family]
    prompt = to_prompt(SEEN, ImagePolicy())
    text = ChatTemplate(model.processor).render(prompt.messages, "\ue000", (TOOL,))
    assert text.count("<image>") == 3
    in_order(text, "<image>", "Crop it", "first crop", "<image>", "<image>", "second crop")
    inputs = encode(model, [Prompt(prompt.messages, prompt.images, (TOOL,))])
    token = model.tokenizer.convert_tokens_to_ids("<image>")
    assert int((inputs["input_ids"] == token).sum()) == 3 * 16
