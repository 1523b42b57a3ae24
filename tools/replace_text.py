"""replace_text: a text with one part of it replaced by another, everywhere."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox.content import MAX_TEXT, Arguments, Text, content_tool, shown


class ReplaceTextArguments(Arguments):
    """What replace_text takes."""

    text: Annotated[Text, Field(description="the text")]
    find: Annotated[Text, Field(description="what is replaced")]
    replace: Annotated[Text, Field(description="what stands there instead")]


def replace_text(text: str, find: str, replace: str) -> str:
    """The changed text; capitals count. Raises ToolException where there is nothing to change."""
    if not find:
        raise ToolException("find is empty: give the part of the text that is to be replaced")
    times = text.count(find)
    if not times:
        raise ToolException(
            f"{shown(find)} does not stand in the text: write it as the text does, capitals too"
        )
    # Before it is made: a million times a long text would be a very long one.
    if len(text) + times * (len(replace) - len(find)) > MAX_TEXT:
        raise ToolException(
            f"the result has more than {MAX_TEXT:,} characters: replace in parts of the text"
        )
    return text.replace(find, replace)


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "replace_text",
        "Replaces a part of a text by another.",
        ReplaceTextArguments,
        replace_text,
    )
