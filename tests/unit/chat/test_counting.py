from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)

from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ModalityError
from tests.models import build_text_model, build_vision_model
from tests.pictures import image_block


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return ChatT2(build_vision_model(), dispatch="off", max_tokens=2)


def lookup(word: str) -> str:
    """Look it up."""
    return word


CONVERSATIONS: list[list[Any]] = [
    [HumanMessage("hello")],
    [SystemMessage("Be brief."), HumanMessage("hello"), AIMessage("Yes?"), HumanMessage("x")],
    [HumanMessage([image_block("red"), {"type": "text", "text": "What is it?"}])],
    [HumanMessage([image_block("red"), image_block("blue"), "both?"])],
    [
        HumanMessage("look"),
        AIMessage("", tool_calls=[{"name": "lookup", "args": {"word": "a"}, "id": "1"}]),
        ToolMessage("here", tool_call_id="1"),
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_it_is_what_the_usage_tells(chat: ChatT2, messages: list[Any]) -> None:
    usage = chat.invoke(messages).usage_metadata
    assert usage is not None
    assert chat.get_num_tokens_from_messages(messages) == usage["input_tokens"]


def test_tools_count() -> None:
    chat = ChatT2(build_text_model(), dispatch="off", max_tokens=2)
    plain = chat.get_num_tokens_from_messages([HumanMessage("hello")])
    with_tools = chat.get_num_tokens_from_messages([HumanMessage("hello")], [lookup])
    assert with_tools > plain + 20


def test_a_text_is_counted_by_the_models_tokenizer(chat: ChatT2) -> None:
    text = "The quick brown fox, twice."
    tokens = chat.get_token_ids(text)
    assert chat.t2.tokenizer.decode(tokens) == text
    assert tokens[0] != chat.t2.tokenizer.bos_token_id
    assert chat.get_num_tokens(text) == len(tokens)
    own = ChatT2(chat.t2, dispatch="off", custom_get_token_ids=lambda text: [1] * len(text))
    assert own.get_num_tokens("four") == 4


def test_what_cannot_be_read_is_not_counted() -> None:
    with pytest.raises(ModalityError):
        ChatT2(build_text_model(), dispatch="off").get_num_tokens_from_messages(
            [HumanMessage([image_block("red")])]
        )


def test_a_history_is_trimmed_to_the_models_tokens(chat: ChatT2) -> None:
    history = [HumanMessage(f"message number {n}") for n in range(20)]
    kept = trim_messages(history, max_tokens=60, token_counter=chat, strategy="last")
    assert 0 < len(kept) < 20
    assert chat.get_num_tokens_from_messages(kept) <= 60
