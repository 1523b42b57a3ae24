"""change_case: a text in capitals, in small letters or as a title."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool

Case = Literal["upper", "lower", "title"]


class ChangeCaseArguments(Arguments):
    """What change_case takes."""

    text: Annotated[Text, Field(description="the text")]
    case: Case


def change_case(text: str, case: Case) -> str:
    """The text in that case; a title has a capital at the start of each word."""
    if case == "title":
        # str.title would make Don'T of don't.
        return re.sub(r"(?<!\S)\S", lambda start: start[0].upper(), text.lower())
    return text.upper() if case == "upper" else text.lower()


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "change_case",
        "Writes a text in upper, lower or title case.",
        ChangeCaseArguments,
        change_case,
    )
