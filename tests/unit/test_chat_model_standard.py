"""LangChain's standard tests, as far as tools and structured output are not needed.

The model is random: tests that ask for a meaningful reply are not among those that it can pass.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from tests.models import tiny_vision_model

from t2agent.chat_model import ChatT2


class _Tiny:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatT2

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": tiny_vision_model(), "dispatch": "off"}


class TestUnit(_Tiny, ChatModelUnitTests):
    pass


class TestIntegration(_Tiny, ChatModelIntegrationTests):
    @property
    def supports_image_inputs(self) -> bool:
        return True
