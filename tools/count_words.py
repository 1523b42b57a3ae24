"""count_words: the number of words of a text."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool


class CountWordsArguments(Arguments):
    """What count_words takes."""

    text: Annotated[Text, Field(description="the text")]


def make() -> BaseTool:
    """The tool. Words are what blanks separate."""
    return content_tool(
        "count_words",
        "Counts the words of a text.",
        CountWordsArguments,
        lambda text: str(len(text.split())),
    )
