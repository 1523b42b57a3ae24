"""count_items: how often each item stands in a list."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, content_tool
from t2agent.toolbox.numbers import Items


class CountItemsArguments(Arguments):
    """What count_items takes."""

    items: Annotated[Items, Field(description='such as ["pear", "apple", "pear"]')]


def count_items(items: list[int | float | str]) -> str:
    """The number of items, of different ones, and how often each is there, the most first."""
    counts = Counter(items).most_common()
    each = ", ".join(f"{json.dumps(item, ensure_ascii=False)} {n}" for item, n in counts)
    return f"{len(items)} items, {len(counts)} different" + (f": {each}" if each else "")


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "count_items",
        "Counts the items of a list, and how often each is there.",
        CountItemsArguments,
        count_items,
    )
