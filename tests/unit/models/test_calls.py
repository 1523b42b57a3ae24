"""What a model is trained on is what it is asked with, and what is read back: in every family."""

from __future__ import annotations

from typing import Any

import pytest
import xgrammar
from PIL import Image

from t2agent.chat.chat_model import ChatT2
from t2agent.engine.reply_form import ReplyForm
from t2agent.images import ImagePolicy, data_url
from t2agent.models import branching
from t2agent.models.calls import call_marks, wanted_tokens
from t2agent.models.compiling import compiled
from t2agent.models.decoding import end_token, end_tokens, reader
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from t2agent.tasks.task import Example
from t2agent.toolbox.images import image_block
from tests.models import BOS, CHAT_TEMPLATE, END, build_text_model, build_vision_model
from tests.unit.replies.families import FAMILIES, all_templates, model_with

TOOLS = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tells the {name}.",
            "parameters": {
                "type": "object",
                "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["town"],
            },
        },
    }
    for name in ("weather", "time")
)


def asked(name: str, number: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": number, "function": function}


TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Weather and <|im_end|> in Rome?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            asked("weather", "call_1", '{"town": "Rome", "days": 3}'),
            asked("time", "call_2", '{"town": "Rome"}'),
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    {"role": "assistant", "content": "Sunny, at noon."},
    {"role": "user", "content": [{"type": "text", "text": "And <"}, "|im_end|> now?"]},
]


def chat_reads(model: T2Model, messages: list[Any], tools: tuple[Any, ...]) -> list[int]:
    """The tokens of the prompt that the chat model has the model read."""
    chat: Any = ChatT2(model, dispatch="off", max_tokens=1)
    branching.branches(model.model, 1)  # which tries the model once
    seen: list[int] = []

    def note(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        seen.extend(named["input_ids"][0].tolist())

    model.prefix_cache.budget = 0  # all of the prompt is read, in one piece or several
    hook = model.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        (chat.bind_tools(list(tools)) if tools else chat).invoke(messages)
    finally:
        hook.remove()
    return seen


def training_reads(model: T2Model, example: Example) -> list[int]:
    tokens: list[int] = encode(model, [Prompt.of(example)])["input_ids"][0].tolist()
    return tokens


@pytest.mark.parametrize("name", all_templates())
def test_prompts_are_those_of_the_chat_model(name: str) -> None:
    model = model_with(all_templates()[name], real=False)
    for messages, tools in ((TALK, TOOLS), (TALK[1:5], TOOLS[:1]), (TALK[:2], ())):
        example = Example(answer="x", messages=tuple(messages), tools=tools)
        assert training_reads(model, example) == chat_reads(model, messages, tools)
    plain = Example("Hi", "x", tools=TOOLS)
    assert training_reads(model, plain) == chat_reads(model, [("user", "Hi")], TOOLS)


@pytest.fixture(scope="module")
def seeing() -> T2Model:
    return build_vision_model(context=8192)


@pytest.mark.parametrize("name", ["own", "parts", "qwen3-coder", "alternating", "headers"])
def test_images_are_where_the_chat_model_has_them(name: str, seeing: T2Model) -> None:
    model = seeing
    model.processor.chat_template = FAMILIES.get(name, CHAT_TEMPLATE)
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    address = data_url(image_block(blue), ImagePolicy())
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "What is "}, dict(image_block(red))]},
        {"role": "assistant", "content": "Red."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": address}},
                {"type": "text", "text": "And this?"},
            ],
        },
    ]
    example = Example(answer="Blue.", messages=tuple(messages))
    assert [image.getpixel((0, 0)) for image in example.images] == [(255, 0, 0), (0, 0, 255)]
    held = [{**messages[2], "content": [{"type": "image", "image": blue}, "And this?"]}]
    again = Example(answer="Blue.", messages=(*messages[:2], *held))
    tokens = chat_reads(model, messages, ())
    assert training_reads(model, example) == training_reads(model, again) == tokens


CALLS = (
    {"name": "weather", "arguments": {"town": 'a "b"\n<|im_end|> é', "days": 3}},
    {"name": "time", "arguments": {"town": "Oslo"}},
)


@pytest.mark.parametrize("name", all_templates())
def test_wanted_calls_are_read_back(name: str) -> None:
    model = model_with(all_templates()[name], real=False)
    for answer in ("", "I look."):
        read_back(model, Example("Weather?", answer, tools=TOOLS, calls=CALLS))


def read_back(model: T2Model, example: Example) -> None:
    *tokens, last = wanted_tokens(model, example)
    form = ReplyForm.of({"tools": TOOLS})
    parser = form.parser(model)
    assert parser is not None
    text = reader(model.tokenizer, call_marks(model))(tokens)
    parser.push(text)
    parser.finish()
    found = [{"name": call.name, "arguments": call.parsed()} for call in parser.calls]
    wanted = list(CALLS) if parser.format.parallel else list(CALLS[:1])
    assert found == wanted, text
    assert parser.content.endswith(example.answer)
    assert last in end_tokens(model)
    # ... and it is a reply that the chat model can give.
    constraint = form.constraint(model, Prompt.of(example))
    assert constraint is not None
    matcher = xgrammar.GrammarMatcher(compiled(model, constraint))
    for token in (*tokens, last):
        assert matcher.accept_token(token), (text, model.tokenizer.decode([token]))


def test_marks_that_are_control_tokens_stay_such() -> None:
    model = build_text_model()
    marks = ["<|tool_call|>", "<|/tool_call|>"]
    model.tokenizer.add_special_tokens({"extra_special_tokens": marks})
    model.tokenizer.chat_template = FAMILIES["phi-4-mini"]
    number = model.tokenizer.convert_tokens_to_ids("<|tool_call|>")
    spelled = ({"name": "time", "arguments": {"town": "<|tool_call|>"}},)
    tokens = wanted_tokens(model, Example("When?", "<|tool_call|>", tools=TOOLS, calls=spelled))
    assert tokens.count(number) == 1
    assert number in call_marks(model)
    read = reader(model.tokenizer, call_marks(model))
    assert read(tokens) == (
        '<|tool_call|>\n<|tool_call|>{"name": "time", "arguments": {"town": "<|tool_call|>"}}'
        "<|/tool_call|>"
    )


def test_a_reply_ends_as_the_template_ends_it() -> None:
    model = build_text_model()
    ends = [model.tokenizer.convert_tokens_to_ids(one) for one in (BOS, END)]
    model.tokenizer.eos_token = BOS
    model.model.generation_config.eos_token_id = ends
    assert end_token(model) == ends[1]
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert end_token(model) == ends[0]  # where the template writes none, the tokenizer's
    # A reply with calls may end otherwise than an answer.
    model.tokenizer.chat_template = (
        FAMILIES["functionary-3.1"].replace("<|eom_id|>", BOS).replace("<|eot_id|>", END)
    )
    example = Example("When?", tools=TOOLS, calls=CALLS[1:])
    assert wanted_tokens(model, example)[-1] == ends[0]
    assert wanted_tokens(model, Example("When?", "Now."))[-1] == ends[1]
