"""What other chat models have: several replies, log-probabilities, ways to sample, reasoning."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage

from t2agent import ChatT2, T2Model
from t2agent.chat.replies import ReplyReader
from t2agent.engine.reply_form import ReplyForm
from t2agent.errors import ConfigError
from t2agent.models.prompt import Prompt

ASK = "What is 7 * 3 + 12?"


@pytest.fixture(scope="module")
def model() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


@pytest.fixture
def chat(model: T2Model) -> ChatT2:
    return ChatT2(model, max_tokens=12)


def texts(result) -> list[str]:
    return [generation.text for generation in result.generations[0]]


def test_several_replies_are_drawn_apart_and_again(chat):
    options = {"n": 3, "temperature": 3.0, "seed": 1, "dispatch": "off"}
    found = texts(chat.generate([[HumanMessage(ASK)]], **options))
    assert len(set(found)) == 3
    assert texts(chat.generate([[HumanMessage(ASK)]], **options)) == found


async def test_several_replies_in_a_task(chat):
    options = {"n": 2, "temperature": 3.0, "seed": 1, "dispatch": "off"}
    found = texts(await chat.agenerate([[HumanMessage(ASK)]], **options))
    assert found == texts(chat.generate([[HumanMessage(ASK)]], **options))


def test_several_greedy_replies_are_one(chat):
    found = texts(chat.generate([[HumanMessage(ASK)]], n=2))
    assert found == [chat.invoke(ASK).content] * 2


def test_a_stream_holds_one_reply(chat):
    with pytest.raises(ConfigError, match="n=1"):
        list(chat.stream(ASK, n=2))


def test_log_probabilities_add_up_to_the_text(chat):
    reply = chat.invoke(ASK, logprobs=True, top_logprobs=2)
    content = reply.response_metadata["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == reply.content
    assert all(len(one["top_logprobs"]) == 2 for one in content)
    whole = None
    for chunk in chat.stream(ASK, logprobs=True, top_logprobs=2):
        whole = chunk if whole is None else whole + chunk
    assert whole.response_metadata["logprobs"]["content"] == content
    assert "logprobs" not in chat.invoke(ASK).response_metadata


@pytest.mark.parametrize("options", [{"top_k": 1}, {"min_p": 1.0}])
def test_what_leaves_one_token_is_greedy(chat, options):
    assert chat.invoke(ASK, temperature=3.0, **options).content == chat.invoke(ASK).content


def test_beams_search_a_reply_by_a_schema(chat):
    schema = {
        "title": "Found",
        "type": "object",
        "properties": {"a": {"enum": ["x", "yz", 12]}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
    }
    asked = ["a", "b b", "1 2 3", "x or yz", "the text"]

    def found(**options):
        held = chat.with_structured_output(schema, max_tokens=60, **options)
        return [held.invoke(one) for one in asked]

    assert found(num_beams=8) != found() == found(num_beams=1)


def test_repetition_is_punished(chat):
    assert chat.invoke(ASK, repetition_penalty=3.0).content != chat.invoke(ASK).content


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"top_k": -1}, {"min_p": 2}, {"top_logprobs": 30}, {"num_beams": 0}]
)
def test_options_out_of_range_are_told(model, options):
    with pytest.raises(ConfigError, match=next(iter(options)).removeprefix("top_log")):
        ChatT2(model, **options).invoke(ASK)


@pytest.mark.parametrize(
    ("reasoning", "content", "thought"),
    [
        (None, "<think>Well.</think>\n\nYes.", None),
        (True, "Yes.", "Well."),
        (False, "Yes.", None),
    ],
)
def test_thoughts_are_apart_where_that_is_wanted(model, reasoning, content, thought):
    said = "<think>Well.</think>\n\nYes."

    def reader() -> ReplyReader:
        return ReplyReader.of(ReplyForm(), model, Prompt.user(ASK), reasoning=reasoning)

    message = reader().message(said)
    assert message.content == content
    assert message.additional_kwargs.get("reasoning_content") == thought
    kinds = [block["type"] for block in message.content_blocks]
    assert ("reasoning" in kinds) == (thought is not None)
    pieces, read = [], reader()
    for letter in said:
        pieces += read.chunks(letter)
    pieces += read.chunks("", last=True)
    assert "".join(piece.content for piece in pieces) == content
    told = "".join(piece.additional_kwargs.get("reasoning_content", "") for piece in pieces)
    assert told == (thought or "")
