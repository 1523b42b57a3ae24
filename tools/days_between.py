"""days_between: how many days lie between two dates."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool
from t2agent.toolbox.dates import Clock, parsed
from t2agent.toolbox.dates import now as present


class DaysBetweenArguments(Arguments):
    """What days_between takes."""

    start: Annotated[Text, Field(description="such as 2026-03-14, or today")]
    end: Annotated[Text, Field(description="such as 2026-03-20, or today")]


def make(*, now: Clock = present) -> BaseTool:
    """The tool; ``now`` tells it which day today is."""

    def days_between(start: str, end: str) -> str:
        return str((parsed(end, now) - parsed(start, now)).days)

    return content_tool(
        "days_between",
        "Counts the days from a date to another.",
        DaysBetweenArguments,
        days_between,
    )
