"""The tiny models of the tests do not depend on which tests ran before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from t2agent.models.generate import Prompt, encode
from tests.models import build_text_model, build_tokenizer, build_vision_model


@pytest.mark.parametrize(
    "build",
    [build_tokenizer, lambda: build_text_model().tokenizer, lambda: build_vision_model().tokenizer],
    ids=["tokenizer", "text", "vision"],
)
def test_every_tokenizer_is_its_owners(build: Callable[[], Any]) -> None:
    before = build()
    entries, special = before.get_vocab(), before.all_special_tokens
    before.add_tokens(["<new>"], special_tokens=True)
    before.chat_template, before.pad_token = "", None
    build_vision_model()
    after = build()
    assert after.get_vocab() == entries
    assert after.all_special_tokens == special
    assert after.chat_template
    assert after.pad_token


def test_every_token_has_an_embedding() -> None:
    for model in (build_text_model(), build_vision_model()):
        assert model.model.get_input_embeddings().num_embeddings == len(model.tokenizer)
    picture = Image.new("RGB", (64, 64), "red")
    assert encode(model, [Prompt.user("What?", picture)])["input_ids"].max() < len(model.tokenizer)
