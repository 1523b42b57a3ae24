"""weekday: which day of the week a date is."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool
from t2agent.toolbox.dates import WEEKDAYS, Clock, parsed
from t2agent.toolbox.dates import now as present


class WeekdayArguments(Arguments):
    """What weekday takes."""

    date: Annotated[Text, Field(description="such as 2026-03-14, or today")]


def make(*, now: Clock = present) -> BaseTool:
    """The tool; ``now`` tells it which day today is."""

    def weekday(date: str) -> str:
        return WEEKDAYS[parsed(date, now).weekday()]

    return content_tool(
        "weekday", "Tells the day of the week of a date.", WeekdayArguments, weekday
    )
