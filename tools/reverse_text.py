"""reverse_text: a text written backwards."""

from __future__ import annotations

import re
from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool

# What a reader takes for one character stays as it is: a letter with its accents, a flag, an
# emoji with its colour of skin, a family.
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u20d0-\u20ff\ufe00-\ufe0f\U0001f3fb-\U0001f3ff"
_CHARACTER = re.compile(
    rf"\r\n|[\U0001f1e6-\U0001f1ff]{{2}}|.[{_MARKS}]*(?:\u200d.[{_MARKS}]*)*", re.DOTALL
)


class ReverseTextArguments(Arguments):
    """What reverse_text takes."""

    text: Annotated[Text, Field(description="the text")]


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "reverse_text",
        "Writes a text backwards.",
        ReverseTextArguments,
        lambda text: "".join(reversed(_CHARACTER.findall(text))),
    )
