"""describe_numbers: count, sum, mean, median, smallest and largest, exactly."""

from __future__ import annotations

import statistics
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox.content import Arguments, content_tool
from t2agent.toolbox.numbers import Numbers, exact, written


class DescribeNumbersArguments(Arguments):
    """What describe_numbers takes."""

    numbers: Annotated[Numbers, Field(description="such as [3, 1, 2]")]


def describe_numbers(numbers: list[int | float]) -> str:
    """What is usually asked of a list of numbers. Raises ToolException for an empty one."""
    values = [exact(number) for number in numbers]
    if not values:
        raise ToolException("the list is empty, and at least one number is needed")
    told = {
        "sum": sum(values),
        "mean": statistics.mean(values),
        "median": statistics.median(values),
        "smallest": min(values),
        "largest": max(values),
    }
    return f"count {len(values)}, " + ", ".join(f"{k} {written(v)}" for k, v in told.items())


def make() -> BaseTool:
    """The tool."""
    return content_tool(
        "describe_numbers",
        "Tells the count, sum, mean, median, smallest and largest of numbers.",
        DescribeNumbersArguments,
        describe_numbers,
    )
