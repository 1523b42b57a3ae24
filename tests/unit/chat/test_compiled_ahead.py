"""What is bound is compiled then, and not again by the first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from t2agent import ChatT2
from t2agent.models.once import Once
from tests.models import build_text_model


def tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
    function = {"name": name, "description": f"Does {name}.", "parameters": schema}
    return {"type": "function", "function": function}


TOOLS = [tool("one"), tool("two"), tool("six")]
SCHEMA = {"title": "R", **TOOLS[0]["function"]["parameters"]}
BINDINGS: list[Callable[[ChatT2], Any]] = [
    lambda chat: chat.bind_tools(TOOLS),
    lambda chat: chat.bind_tools(TOOLS, tool_choice="any", parallel_tool_calls=False),
    lambda chat: chat.bind_tools(TOOLS, tool_choice="two", max_tools=1),
    lambda chat: chat.bind_tools(TOOLS, tool_choice="any", max_tools=3),
    lambda chat: chat.bind_tools(TOOLS, response_format={"type": "json_object"}),
    lambda chat: chat.with_structured_output(SCHEMA, include_raw=True),
    lambda chat: chat.with_structured_output(SCHEMA, method="function_calling", include_raw=True),
]


@pytest.mark.parametrize("bind", BINDINGS)
def test_the_first_call_compiles_nothing(bind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    known = Once.of

    def of(self: Once, key: str, make: Callable[[str], Any]) -> Any:
        return known(self, key, lambda text: (made.append(text), make(text))[1])

    monkeypatch.setattr(Once, "of", of)
    chat = ChatT2(build_text_model(3, context=4096), dispatch="off", max_tokens=4, max_tools=None)
    bound = bind(chat)
    assert made
    made.clear()
    bound.invoke("Do two of them")
    assert not made
