"""sort_numbers: numbers in order."""

from __future__ import annotations

import json
from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, content_tool
from t2agent.toolbox.numbers import Numbers


class SortNumbersArguments(Arguments):
    """What sort_numbers takes."""

    numbers: Annotated[Numbers, Field(description="such as [3, 1, 2]")]


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "sort_numbers",
        "Sorts numbers, smallest first.",
        SortNumbersArguments,
        lambda numbers: json.dumps(sorted(numbers)),
    )
