"""arrange_list: a list sorted, turned round or without repeated items."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, content_tool
from t2agent.toolbox.numbers import Items

Item = int | float | str
How = Literal["sort", "sort backwards", "reverse", "unique"]


class ArrangeListArguments(Arguments):
    """What arrange_list takes."""

    items: Annotated[Items, Field(description='such as ["pear", "apple"]')]
    how: How


def arrange_list(items: list[Item], how: How) -> str:
    """The list in another order, as JSON. Numbers are sorted before words, by their size."""
    if how == "reverse":
        arranged = items[::-1]
    elif how == "unique":
        arranged = list(dict.fromkeys(items))
    else:
        arranged = sorted(items, key=_rank, reverse=how == "sort backwards")
    return json.dumps(arranged, ensure_ascii=False)


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "arrange_list",
        "Sorts or reverses a list, or takes out what it has twice.",
        ArrangeListArguments,
        arrange_list,
    )


def _rank(item: Item) -> tuple[bool, int | float, str, str]:
    if isinstance(item, str):
        return True, 0, item.casefold(), item
    return False, item, "", ""
