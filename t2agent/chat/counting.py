"""Tokens of texts and conversations, counted as the model itself reads them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from t2agent.chat.tool_settings import ToolSettings
from t2agent.engine.reply_form import ReplyForm
from t2agent.models.prompt import TOKENIZER_LOCK, encode


class Counting(ToolSettings, BaseChatModel):
    """What counts tokens, by the model's own tokenizer, processor and chat template."""

    def get_token_ids(self, text: str) -> list[int]:
        """The tokens of a text by itself, without those that begin or end a sequence."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with TOKENIZER_LOCK:
            found = self.t2.tokenizer(text, add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool]
        | None = None,
    ) -> int:
        """The tokens of the whole prompt: what a reply's usage tells as ``input_tokens``.

        The header of the answer counts, as do the images, which are read, and the tools that a
        request shows.

        Raises:
            T2Error: whatever a call with these messages raises.
        """
        form = ReplyForm.of({"tools": [convert_to_openai_tool(tool) for tool in tools or ()]})
        _, prompt, _ = self._prepared(messages, form, self.engine)
        return int(encode(self.t2, [prompt])["attention_mask"].sum())
