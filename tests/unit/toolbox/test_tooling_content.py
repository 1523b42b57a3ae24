"""What a tool does with whatever a model or a user calls it with."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool, ToolException

from t2agent.errors import ConfigError
from t2agent.toolbox import nearest
from t2agent.toolbox.content import Arguments, Text, clean, content_tool, shown


class EchoArguments(Arguments):
    text: Text
    times: int = 1


def echo(text: str, times: int) -> str:
    if text == "config":
        raise ConfigError("got 'config': give another")
    if text == "tool":
        raise ToolException("got \ud800: give another")
    if text == "mistake":
        raise RuntimeError("a mistake in the tool")
    return text * times


async def echo_async(text: str, times: int) -> str:
    return f"async {echo(text, times)}"


def tool(**options: Any) -> BaseTool:
    return content_tool("echo", "Says it again.", EchoArguments, echo, **options)


AGAIN = "Call it again with text (a text), times (a whole number)."
MISSING = f"echo was called wrongly: text is missing. {AGAIN}"
SEVERAL = (
    "echo was called wrongly: text must be a text, but None was given; times must be a whole "
    f"number, but 1.5 was given; it has no argument 'when'. {AGAIN}"
)
LONG = "the result has 200,000 characters, and 20,000 are the most: ask for less at a time"
CALLS = [
    ({"text": "a", "times": 2}, "aa", "success"),
    ({"text": "a", "times": "3"}, "aaa", "success"),
    ({"text": 5}, "5", "success"),
    ({"text": "config"}, "got 'config': give another", "error"),
    ({"text": "tool"}, "got ?: give another", "error"),
    ({"times": 2}, MISSING, "error"),
    ({"text": None, "times": 1.5, "when": 1}, SEVERAL, "error"),
    ({"text": "ab", "times": 10**5}, LONG, "error"),
]


@pytest.mark.parametrize(("arguments", "content", "status"), CALLS)
async def test_content(arguments: dict[str, Any], content: str, status: str) -> None:
    call = {"type": "tool_call", "name": "echo", "args": arguments, "id": "1"}
    for answer in (tool().invoke(call), await tool().ainvoke(call)):
        assert (answer.content, answer.status) == (content, status)


async def test_a_coroutine_of_its_own() -> None:
    its = tool(coroutine=echo_async)
    assert await its.ainvoke({"text": "a", "times": 2}) == "async aa"
    assert await its.ainvoke("a") == "async a"
    assert its.invoke("a") == "a"
    for arguments, content, status in CALLS:
        if status == "error" and "result" not in content:
            assert await its.ainvoke(arguments) == content


def test_a_bare_text_is_the_first_argument() -> None:
    assert tool().invoke("hi") == "hi"
    assert "20,000 are the most" in tool().invoke("x" * 20_001)


def test_a_mistake_in_a_tool_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="a mistake in the tool"):
        tool().invoke({"text": "mistake"})


def test_many_wrong_arguments_are_told_in_short() -> None:
    told = tool().invoke({f"x{n}" * 50: n for n in range(10_000)})
    assert len(told) < 800


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("a" * 100, f"'{'a' * 60}'..."),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "an object"),
        (None, "None"),
        (1.5, "1.5"),
    ],
)
def test_values_in_errors(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_number_that_python_does_not_write() -> None:
    assert shown(10**10_000) == "a huge number"


def test_halves_of_surrogate_pairs_are_taken_out() -> None:
    assert clean("a\udcffb") == "a?b"
    assert clean("a😀b") == "a😀b"


def test_the_nearest_name() -> None:
    assert nearest("clcok", ["clock", "x"]) == " Did you mean 'clock'?"
    assert nearest("zebra", ["clock"]) == ""
    assert nearest("x" * 10**6, ["clock"]) == ""
