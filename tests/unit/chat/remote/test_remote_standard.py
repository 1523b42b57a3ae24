"""LangChain's standard tests for ChatT2Remote that ask for nothing; the others are those of the
server (tests/unit/server/test_langchain_standard.py).

Left out are PDF, audio and video, which are no inputs of t2agent, and serialisation: LangChain's
`load` takes only classes of its own list.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from t2agent import ChatT2, ChatT2Remote
from tests.openai_server import OpenAIServer, serving

_STACK = ExitStack()


@functools.cache
def server() -> OpenAIServer:
    found: OpenAIServer = _STACK.enter_context(serving(ChatT2()))
    return found


@pytest.fixture(autouse=True, scope="module")
def _stopped() -> Iterator[None]:
    with _STACK:
        yield


class _Remote:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatT2Remote

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"base_url": server().url}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"T2AGENT_REMOTE_API_KEY": "a-key"}, {}, {"api_key": "a-key"}

    has_tool_calling = True
    has_tool_choice = True
    has_structured_output = True
    supports_json_mode = True
    supports_image_inputs = True
    supports_image_tool_message = True
    supports_anthropic_inputs = True
    supports_model_override = True
    model_override_value = "math"
    returns_usage_metadata = True
    enable_vcr_tests = True
    supports_pdf_inputs = False
    supports_pdf_tool_message = False
    supports_audio_inputs = False
    supports_video_inputs = False
    supports_image_urls = False  # fetched where the caller allows it, as by ChatT2


class TestUnit(_Remote, ChatModelUnitTests):
    pass
