"""LangChain's standard tests, on a random model.

Tests of tools, structured output and other inputs than text are left out by the suite's own
properties, each for the reason beside it. All others must pass; none of them asks for a reply that
makes sense.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from torch import nn

from t2agent.chat_model import ChatT2
from t2agent.model import T2Model
from tests.models import build_vision_model


@functools.cache
def brief_model() -> T2Model:
    """Random, but each token has a fair chance to end the reply."""
    model = build_vision_model()
    head = model.model.lm_head
    head.bias = nn.Parameter(torch.zeros(head.out_features), requires_grad=False)
    head.bias[model.tokenizer.eos_token_id] = 2.0
    return model


class _Tiny:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatT2

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # "off": dispatch needs an encoder and experts; its tests are in test_chat_model.py.
        return {"model": brief_model(), "dispatch": "off"}

    # What is False is skipped by the suite itself, test by test, with its reason in the report.

    @property
    def has_tool_calling(self) -> bool:
        return False  # ChatT2 has no bind_tools yet: tools are issue 3

    @property
    def has_structured_output(self) -> bool:
        return False  # needs the grammar, as tools do

    @property
    def supports_json_mode(self) -> bool:
        return False  # needs the grammar, as tools do

    @property
    def supports_image_inputs(self) -> bool:
        return False  # those tests download photos and ask what is seen: see test_chat_model.py

    @property
    def supports_pdf_inputs(self) -> bool:
        return False  # not a modality of t2agent

    @property
    def supports_audio_inputs(self) -> bool:
        return False  # not a modality of t2agent

    @property
    def returns_usage_metadata(self) -> bool:
        return True


class TestUnit(_Tiny, ChatModelUnitTests):
    pass


class TestIntegration(_Tiny, ChatModelIntegrationTests):
    pass


def test_nothing_is_skipped_that_the_model_can_do_by_now() -> None:
    """Fails when tools arrive, so that the properties above are not forgotten."""
    assert ChatT2.bind_tools is BaseChatModel.bind_tools
    assert "image" in brief_model().modalities
