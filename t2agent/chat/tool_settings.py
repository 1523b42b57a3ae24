"""What a chat model has besides: which of the bound tools it shows, and its prompt with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage

from t2agent.chat.messages import to_prompt
from t2agent.chat.settings import Settings
from t2agent.engine.reply_form import ReplyForm
from t2agent.engine.shortlist import Shortlist, ToolPolicy, known_tools
from t2agent.engine.two_passes import Engine, Given
from t2agent.models.prompt import Prompt


class ToolSettings(Settings):
    """Settings, and how tools are shown. Raises as `Settings`."""

    max_tools: Any = "auto"
    """How many of the bound tools are shown to the model, those that fit the request best; None
    for all. "auto": what the base model asks for, which is 1 for t2-nano (unless it has learned
    to use all of them), and all for others."""
    copy_arguments: Any = "auto"
    """Whether arguments of tools are held to words and numbers of the conversation. "auto": what
    the base model asks for, which is True for t2-nano, and False for others."""

    _more: ClassVar[tuple[str, ...]] = ("max_tools", "copy_arguments")

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        # For its errors: the experts' cards are read when tools are bound.
        ToolPolicy.of(self.engine.model, self.max_tools, self.copy_arguments, frozenset())

    def _prepared(
        self,
        messages: Sequence[BaseMessage],
        form: ReplyForm,
        engine: Engine,
        choice: Any = None,
        given: Mapping[str, Any] | None = None,
    ) -> tuple[ReplyForm, Prompt, Shortlist]:
        """The form and the prompt of one call with the tools that are shown for it, and those.

        choice: who answers, where the call says so; `given`: the call's own options.
        """
        prompt = form.prompt(to_prompt(messages, self._policy))
        if not form.tools:
            return form, prompt, Shortlist()
        asked = choice is None or isinstance(choice, Given)
        deciding = engine if asked else engine.dispatching(choice)
        policy = self._tool_policy(engine, given or {})
        return form.shown(prompt, policy, engine.similarity, partial(deciding.wants_tools, prompt))

    def _tool_policy(self, engine: Engine, given: Mapping[str, Any]) -> ToolPolicy:
        """How the tools of one call are shown."""
        most, copying = (given.get(name, getattr(self, name)) for name in self._more)
        cards = (engine.registry or engine.model.registry).cards().values()
        return ToolPolicy.of(engine.model, most, copying, known_tools(cards))
