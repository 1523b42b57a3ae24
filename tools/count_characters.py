"""count_characters: the number of characters of a text, and of letters among them."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool


class CountCharactersArguments(Arguments):
    """What count_characters takes."""

    text: Annotated[Text, Field(description="the text")]


def count_characters(text: str) -> str:
    """All characters, blanks included, then letters, digits and blanks."""
    letters = sum(map(str.isalpha, text))
    digits = sum(map(str.isdigit, text))
    blanks = sum(map(str.isspace, text))
    return f"{len(text)} characters: {letters} letters, {digits} digits, {blanks} blanks"


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "count_characters",
        "Counts the characters and the letters of a text.",
        CountCharactersArguments,
        count_characters,
    )
