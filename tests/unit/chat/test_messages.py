from __future__ import annotations

import base64
import io

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from PIL import Image

from t2agent.chat.messages import to_openai, to_prompt
from t2agent.errors import ConfigError, ImageRefusedError, ModalityError
from t2agent.images import ImagePolicy

POLICY = ImagePolicy()


def block(colour: str) -> dict[str, str]:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}


def test_roles() -> None:
    messages = [
        SystemMessage("s"),
        HumanMessage("h"),
        AIMessage("a"),
        ToolMessage("t", tool_call_id="1", name="f"),
        ChatMessage("c", role="critic"),
    ]
    prompt = to_prompt(messages, POLICY)
    assert [message["role"] for message in prompt.messages] == [
        "system", "user", "assistant", "tool", "critic",
    ]  # fmt: skip
    texts = [message["content"][0]["text"] for message in prompt.messages]
    assert texts == ["s", "h", "a", "t", "c"]
    assert prompt.messages[3]["tool_call_id"] == "1"
    assert prompt.messages[3]["name"] == "f"


def test_images_are_in_the_order_of_their_places() -> None:
    messages = [
        HumanMessage([block("red"), {"type": "text", "text": "and"}, block("blue")]),
        HumanMessage(["plain", block("lime")]),
    ]
    prompt = to_prompt(messages, POLICY)
    kinds = [[part["type"] for part in message["content"]] for message in prompt.messages]
    assert kinds == [["image", "text", "image"], ["text", "image"]]
    colours = [image.getpixel((0, 0)) for image in prompt.images]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]


def test_tool_calls_of_an_earlier_answer() -> None:
    call = {"name": "add", "args": {"a": 1}, "id": "7", "type": "tool_call"}
    content = [{"type": "text", "text": "Let me see."}, {"type": "tool_call", **call}]
    prompt = to_prompt([AIMessage(content=content, tool_calls=[call])], POLICY)
    assert prompt.messages[0]["content"] == [{"type": "text", "text": "Let me see."}]
    assert prompt.messages[0]["tool_calls"] == [
        {"type": "function", "id": "7", "function": {"name": "add", "arguments": {"a": 1}}}
    ]


def test_what_cannot_be_read() -> None:
    with pytest.raises(ModalityError, match="'audio'"):
        to_prompt([HumanMessage([{"type": "audio", "base64": "aaaa"}])], POLICY)
    with pytest.raises(ImageRefusedError):
        to_prompt([HumanMessage([{"type": "image", "url": "/etc/hostname"}])], POLICY)
    with pytest.raises(ConfigError, match="RemoveMessage"):
        to_prompt([RemoveMessage(id="1")], POLICY)
    with pytest.raises(ConfigError, match="no message"):
        to_prompt([], POLICY)


@pytest.mark.parametrize("text", [None, 5, ["x"]])
def test_a_text_that_is_no_string_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="give a string"):
        to_prompt([HumanMessage(content=[{"type": "text", "text": text}])], ImagePolicy())


def test_openais_form() -> None:
    call = {"name": "f", "args": {"a": [1]}, "id": "1", "type": "tool_call"}
    messages = [
        SystemMessage("s"),
        HumanMessage([{"type": "text", "text": "a"}, "b"]),
        HumanMessage(["c", block("red")]),
        AIMessage([{"type": "thinking", "thinking": "?"}], tool_calls=[call]),
        AIMessage("d", tool_calls=[call]),
        ToolMessage("t", tool_call_id="1", name="f"),
    ]
    system, text, image, bare, calling, result = to_openai(messages, POLICY)
    assert system == {"role": "system", "content": "s"}
    assert text == {"role": "user", "content": "ab"}
    assert image["content"][0] == {"type": "text", "text": "c"}
    assert image["content"][1]["type"] == "image_url"
    url = image["content"][1]["image_url"]["url"]
    assert url == "data:image/png;base64," + block("red")["base64"]
    function = {"name": "f", "arguments": '{"a": [1]}'}
    calls = [{"type": "function", "id": "1", "function": function}]
    assert bare == {"role": "assistant", "content": None, "tool_calls": calls}
    assert calling == {"role": "assistant", "content": "d", "tool_calls": calls}
    assert result == {"role": "tool", "content": "t", "tool_call_id": "1", "name": "f"}
    with pytest.raises(ConfigError, match="no message"):
        to_openai([], POLICY)
    with pytest.raises(ModalityError):
        to_openai([HumanMessage([{"type": "audio"}])], POLICY)
