"""find_in_text: how often a letter, word or phrase stands in a text, and where."""

from __future__ import annotations

import re
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool

_MAX_FIND = 200  # the search takes as long as both lengths multiplied
_PLACES = 20


class FindInTextArguments(Arguments):
    """What find_in_text takes."""

    text: Annotated[Text, Field(description="the text")]
    find: Annotated[Text, Field(description="a letter, word or phrase")]


def find_in_text(text: str, find: str) -> str:
    """The number of times, in capitals or not, and the first places, counted from 1.

    Raises ToolException where nothing or too much is looked for.
    """
    if not find:
        raise ToolException("find is empty: give the letter or word to look for")
    if len(find) > _MAX_FIND:
        raise ToolException(
            f"find has {len(find):,} characters, and {_MAX_FIND} are the most: look for a part"
        )
    places = [m.start() + 1 for m in re.finditer(re.escape(find), text, re.IGNORECASE)]
    if not places:
        return "0 times"
    told = ", ".join(map(str, places[:_PLACES])) + (", ..." if len(places) > _PLACES else "")
    return f"{len(places)} times, at character {told}"


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "find_in_text",
        "Counts how often a letter or word stands in a text.",
        FindInTextArguments,
        find_in_text,
    )
