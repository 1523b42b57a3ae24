"""Structured output and tools, on random weights: the form is right, whatever is said."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError, GrammarError
from tests.unit.replies.families import FAMILIES, model_with


class Joke(BaseModel):
    """A joke."""

    setup: str = Field(description="question", max_length=20)
    kind: Literal["pun", "riddle"]
    rating: int
    good: bool | None = None


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    rating: int


JOKE_SCHEMA: dict[str, Any] = {
    "title": "Joke",
    "description": "A joke.",
    "type": "object",
    "properties": {"setup": {"type": "string"}, "rating": {"type": "integer"}},
    "required": ["setup", "rating"],
}
SCHEMAS: dict[str, Any] = {"pydantic": Joke, "typed dict": JokeDict, "json schema": JOKE_SCHEMA}


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word}: a word"


def chat_of(family: str = "phi-4-mini", **fields: Any) -> ChatT2:
    fields = {"max_tokens": 160, "temperature": 1.0, "seed": 1, **fields}
    return ChatT2(model_with(FAMILIES[family], real=False), dispatch="off", **fields)


def is_joke(found: Any, kind: str) -> bool:
    if kind == "pydantic":
        return isinstance(found, Joke)
    known = {"setup", "rating"}
    return isinstance(found, dict) and set(found) == known and isinstance(found["rating"], int)


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("family", ["phi-4-mini", "minimax-m2", "qwen3-coder"])
def test_replies_of_a_schema(kind: str, method: Any, family: str) -> None:
    chat = chat_of(family, max_tokens=300)
    asked = chat.with_structured_output(SCHEMAS[kind], method=method)
    assert is_joke(asked.invoke("A joke, please"), kind)
    *_, last = asked.stream("A joke, please")
    assert is_joke(last, kind)
    raw = chat.with_structured_output(SCHEMAS[kind], method=method, include_raw=True)
    found = raw.invoke("A joke, please")
    assert is_joke(found["parsed"], kind)
    assert isinstance(found["raw"], AIMessage)
    assert found["parsing_error"] is None


async def test_replies_of_a_schema_async() -> None:
    assert is_joke(await chat_of().with_structured_output(Joke).ainvoke("A joke"), "pydantic")


@pytest.mark.parametrize("schema", [None, JOKE_SCHEMA])
def test_json_mode_is_any_object(schema: Any) -> None:
    asked = chat_of(max_tokens=60).with_structured_output(schema, method="json_mode")
    for seed in range(4):
        assert isinstance(asked.bind(seed=seed).invoke("Some JSON"), dict)


def test_what_cannot_be_parsed_is_told_with_include_raw() -> None:
    asked = chat_of(max_tokens=3).with_structured_output(Joke, include_raw=True)
    found = asked.invoke("A joke")
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], Exception)
    assert found["raw"].response_metadata["finish_reason"] == "length"


def test_the_schema_is_in_the_prompt() -> None:
    seen: list[str] = []
    chat = chat_of()
    engine = chat.engine
    answer = engine.answer
    engine.answer = lambda prompts, *a, **k: (  # type: ignore[method-assign]
        seen.extend(json.dumps(one.messages) for one in prompts) or answer(prompts, *a, **k)
    )
    chat.with_structured_output(Joke).invoke("A joke")
    assert "riddle" in seen[0]


@pytest.mark.parametrize("family", ["phi-4-mini", "apertus", "qwen3-coder", "minimax-m2"])
def test_a_call_or_the_json(family: str) -> None:
    """What create_agent binds for a ProviderStrategy: tools beside a response format."""
    chat = chat_of(family, max_tokens=300)
    asked = chat.with_structured_output(Joke, tools=[look_up], include_raw=True)
    kinds = set()
    for seed in range(8):
        message = asked.bind(seed=seed).invoke("A joke, or look something up")["raw"]
        assert not message.invalid_tool_calls
        if message.tool_calls:
            assert set(message.tool_calls[0]["args"]) == {"word"}
        else:
            Joke.model_validate_json(message.content)
        kinds.add(bool(message.tool_calls))
    assert kinds  # a random model may well do always the same
    forced = chat.bind_tools(
        [look_up],
        tool_choice="any",
        response_format={"type": "json_schema", "json_schema": {"schema": JOKE_SCHEMA}},
    )
    assert forced.invoke("Look up").tool_calls


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_an_agent_with_a_response_format(strategy: Any) -> None:
    agent = create_agent(chat_of(max_tokens=200), [], response_format=strategy(Joke))
    state = agent.invoke({"messages": [HumanMessage("A joke")]}, {"recursion_limit": 8})
    assert isinstance(state["structured_response"], Joke)


def test_an_agent_with_tools_and_a_response_format() -> None:
    """Each step is a call that is answered, or the response; a random model may call for ever."""
    for seed in range(4):
        chat = chat_of(max_tokens=200, seed=seed)
        agent = create_agent(chat, [look_up], response_format=ProviderStrategy(Joke))
        with contextlib.suppress(GraphRecursionError):
            for step in agent.stream({"messages": [HumanMessage("Go")]}, {"recursion_limit": 6}):
                [(node, state)] = step.items()
                [message] = state["messages"]
                if node == "model" and not message.tool_calls:
                    assert isinstance(state["structured_response"], Joke)
                elif node == "tools":
                    assert message.content.endswith(": a word")


def test_what_is_no_tool_and_no_schema() -> None:
    chat = chat_of()
    with pytest.raises(ConfigError, match="cannot be a tool"):
        chat.bind_tools([3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="needs a schema"):
        chat.with_structured_output()
    with pytest.raises(ConfigError, match="method is 'xml'"):
        chat.with_structured_output(Joke, method="xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is no schema"):
        chat.with_structured_output(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="json_schema"):
        chat.with_structured_output(Joke, method="function_calling", tools=[look_up])
    with pytest.raises(ConfigError, match="two tools"):
        chat.bind_tools([look_up, look_up]).invoke("Hi")
    with pytest.raises(ConfigError, match="response_format"):
        chat.bind(response_format="json").invoke("Hi")
    broken = {"title": "X", "type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}
    with pytest.raises(GrammarError, match="grammar"):
        chat.with_structured_output(broken).invoke("Hi")


def test_tools_of_all_kinds() -> None:
    class Add(BaseModel):
        """Add numbers."""

        a: int
        b: int

    def sub(a: int, b: int) -> int:
        """Subtract.

        Args:
            a: one.
            b: other.
        """
        return a - b

    plain = {"name": "plain", "description": "x", "parameters": JOKE_SCHEMA}
    anthropic = {"name": "claude", "description": "x", "input_schema": JOKE_SCHEMA}
    chat = chat_of(max_tokens=300)
    for given, name in ((Add, "Add"), (sub, "sub"), (plain, "plain"), (anthropic, "claude")):
        reply = chat.bind_tools([given], tool_choice=name, strict=True).invoke("Go")
        assert reply.tool_calls[0]["name"] == name


def test_what_a_docstring_says_of_arguments_stands_beside_them() -> None:
    """create_agent makes tools of functions whose whole docstring is the description."""

    def pay(amount: float, to: str = "me") -> str:
        """Pay somebody.

        Args:
            amount: how much,
                in euros
            to (str): who gets it

        Returns:
            A receipt: of the payment.
        """
        return f"{amount} {to}"

    [bound] = chat_of().bind_tools([tool(pay)]).kwargs["tools"]  # type: ignore[attr-defined]

    assert bound["function"]["description"] == "Pay somebody."
    told = {k: v["description"] for k, v in bound["function"]["parameters"]["properties"].items()}
    assert told == {"amount": "how much, in euros", "to": "who gets it"}
    assert "Args" in tool(pay).description  # the tool itself is as it was
