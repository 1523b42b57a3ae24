"""Images in conversations: every form, several, in results of tools, and what is refused."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from PIL import Image

from t2agent import images
from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError, ImageRefusedError, ModalityError
from t2agent.models.prompt import encode
from t2agent.nano.tasks import TASKS
from t2agent.toolbox.images import image_block as block_of
from tests.models import IMAGE, IMAGE_TOKENS, tiny_text_model, tiny_vision_model
from tests.pictures import forms, image_block

QUESTION = {"type": "text", "text": "What is it?"}


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return ChatT2(tiny_vision_model(), dispatch="off", max_tokens=8)


def asked(*blocks: Any) -> list[Any]:
    return [HumanMessage([*blocks, QUESTION])]


def image_tokens(chat: ChatT2, messages: list[Any], **given: Any) -> int:
    """How many of the tokens that the model reads stand for pictures."""
    call, _, _ = chat._call(messages, None, given)
    ids = encode(chat.t2, [call.prompt])["input_ids"]
    return int((ids == chat.t2.tokenizer.convert_tokens_to_ids(IMAGE)).sum())


@pytest.mark.parametrize("name", forms("red"))
def test_every_form_is_the_same_picture(chat: ChatT2, name: str) -> None:
    expected = chat.invoke(asked(image_block("red"))).content
    assert chat.invoke(asked(forms("red")[name])).content == expected
    assert chat.invoke(asked(forms("blue")[name])).content != expected


def test_several_pictures_in_their_order(chat: ChatT2) -> None:
    red, blue = image_block("red"), image_block("blue")
    assert image_tokens(chat, asked(red, blue)) == 2 * IMAGE_TOKENS
    both, turned = chat.invoke(asked(red, blue)).content, chat.invoke(asked(blue, red)).content
    assert both != turned
    conversation = [HumanMessage([red]), AIMessage("Yes."), HumanMessage([blue, QUESTION])]
    assert image_tokens(chat, conversation) == 2 * IMAGE_TOKENS
    [first, second] = chat.batch([asked(red, blue), asked(blue)])
    assert first.content == both
    assert second.content == chat.invoke(asked(blue)).content


def crop(part: str) -> str:
    """Cut a part out of the picture."""
    return part


def with_result(*contents: Any) -> list[Any]:
    calls = [
        {"name": "crop", "args": {"part": "left"}, "id": f"call-{n}"} for n in range(len(contents))
    ]
    results = [ToolMessage(list(one), tool_call_id=f"call-{n}") for n, one in enumerate(contents)]
    return [HumanMessage("Look."), AIMessage("", tool_calls=calls), *results]


@pytest.mark.parametrize("name", forms("red"))
def test_a_picture_in_the_result_of_a_tool(chat: ChatT2, name: str) -> None:
    """The template here shows no results: they are in a user's message, where pictures may be."""
    red = with_result([forms("red")[name], {"type": "text", "text": "the left part"}])
    assert image_tokens(chat, red) == IMAGE_TOKENS
    blue = with_result([forms("blue")[name], {"type": "text", "text": "the left part"}])
    assert chat.invoke(red).content != chat.invoke(blue).content
    assert chat.bind(tools=[]).invoke(red).content == chat.invoke(red).content


def test_pictures_in_several_results(chat: ChatT2) -> None:
    red, blue = [image_block("red")], [image_block("blue")]
    assert image_tokens(chat, with_result(red, blue)) == 2 * IMAGE_TOKENS
    assert (
        chat.invoke(with_result(red, blue)).content != chat.invoke(with_result(blue, red)).content
    )
    tools = [{"type": "function", "function": {"name": "crop", "parameters": {}}}]
    mixed = with_result([*red, "and"], ["nothing"], blue)
    assert image_tokens(chat, mixed, tools=tools) == 2 * IMAGE_TOKENS


SHOWS_RESULTS = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{- '<tool_call>' + (call['function'] | tojson) + '</tool_call>' -}}{%- endfor -%}"
    "{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if tools -%}{{- tools | tojson -}}{%- endif -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


def test_a_picture_in_a_result_that_the_template_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vision_model()
    monkeypatch.setattr(model.processor, "chat_template", SHOWS_RESULTS)
    chat = ChatT2(model, dispatch="off", max_tokens=4)
    red = with_result([image_block("red"), "the left part"])
    assert image_tokens(chat, red) == IMAGE_TOKENS
    blue = with_result([image_block("blue"), "the left part"])
    assert chat.invoke(red).content != chat.invoke(blue).content


def test_a_text_model_refuses_a_picture_in_a_result() -> None:
    chat = ChatT2(tiny_text_model(), dispatch="off")
    with pytest.raises(ModalityError):
        chat.invoke(with_result([image_block("red")]))


def test_no_place_is_read_without_leave(chat: ChatT2, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(base64.b64decode(image_block("red")["base64"]))
    places: list[dict[str, Any]] = [
        {"type": "image", "url": path.as_uri()},
        {"type": "image", "url": str(path)},
        {"type": "image", "path": str(path)},
        {"type": "image_url", "image_url": {"url": str(path)}},
        {"type": "image", "source": {"type": "url", "url": path.as_uri()}},
        {"type": "image", "source": {"type": "path", "path": str(path)}},
        {"type": "image", "url": "http://localhost:9/red.png"},
        {"type": "image", "source": {"type": "url", "url": "https://localhost:9/red.png"}},
    ]
    for block in places:
        for messages in (asked(block), with_result([block])):
            with pytest.raises(ImageRefusedError, match=r"allow_image_(files|urls)=True"):
                chat.invoke(messages)
            with pytest.raises(ImageRefusedError):
                list(chat.stream(messages))
    allowed = ChatT2(chat.t2, dispatch="off", max_tokens=8, allow_image_files=True)
    expected = chat.invoke(asked(image_block("red"))).content
    for block in places[:6]:
        assert allowed.invoke(asked(block)).content == expected


def test_addresses_of_other_hosts_are_refused(chat: ChatT2) -> None:
    allowed = ChatT2(chat.t2, dispatch="off", allow_image_urls=["A.example.org", ".example.net"])
    assert allowed.profile is not None
    assert allowed.profile["image_url_inputs"] is True
    assert allowed.allow_image_urls == ("a.example.org", ".example.net")
    block = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}
    with pytest.raises(ImageRefusedError, match=r"'127.0.0.1', which allow_image_urls does not"):
        allowed.invoke(asked(block))
    for wrong in ("a.example.org", ["http://a.example.org"]):
        with pytest.raises(ConfigError, match="allow_image_urls"):
            ChatT2(chat.t2, dispatch="off", allow_image_urls=wrong)


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image", "base64": data, "mime_type": f"image/{kind.lower()}"}


def test_too_large_pictures_are_refused(chat: ChatT2, monkeypatch: pytest.MonkeyPatch) -> None:
    block = encoded(Image.new("RGB", (50, 50)))
    monkeypatch.setattr(images, "MAX_PIXELS", 2400)
    with pytest.raises(ImageRefusedError, match="50 x 50 pixels"):
        chat.invoke(asked(block))
    monkeypatch.setattr(images, "MAX_PIXELS", 2500)
    chat.invoke(asked(block))
    monkeypatch.setattr(images, "MAX_BYTES", 20)
    with pytest.raises(ImageRefusedError, match="more than"):
        chat.invoke(asked(block))


def test_a_turned_photo_is_read_upright(chat: ChatT2) -> None:
    upright = Image.new("RGB", (64, 64), "white")
    upright.paste("red", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = encoded(upright.rotate(90), "PNG", exif=exif)
    expected = chat.invoke(asked(encoded(upright))).content
    assert chat.invoke(asked(turned)).content == expected
    assert chat.invoke(asked(encoded(upright.rotate(90)))).content != expected


def test_no_order_of_text_and_image_costs_t2_nano_its_answers() -> None:
    """A model that was trained with images first: the same score, whatever comes first."""
    chat, task = ChatT2(), TASKS["chart"]
    examples = task.sample(24, seed=12, split="test")

    def score(order: Callable[[Any, Any], list[HumanMessage]]) -> float:
        asked = [order({"type": "text", "text": e.prompt}, block_of(e.image)) for e in examples]
        replies = chat.batch(asked, max_tokens=task.max_tokens)
        right = [task.reward(r.content, e) > 0 for r, e in zip(replies, examples, strict=True)]
        return sum(right) / len(right)

    first = score(lambda text, image: [HumanMessage([image, text])])
    assert first >= 0.9
    assert score(lambda text, image: [HumanMessage([text, image])]) >= first - 0.03
    assert score(lambda text, image: [HumanMessage([image]), HumanMessage([text])]) >= first - 0.03
    assert score(lambda text, image: [HumanMessage([text]), HumanMessage([image])]) >= first - 0.03
