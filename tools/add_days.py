"""add_days: the date some days after, or before, a date."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool
from pydantic import Field

from t2agent.toolbox.content import Arguments, Text, content_tool
from t2agent.toolbox.dates import Clock, moved, parsed
from t2agent.toolbox.dates import now as present


class AddDaysArguments(Arguments):
    """What add_days takes."""

    date: Annotated[Text, Field(description="such as 2026-03-14, or today")]
    days: Annotated[int, Field(description="how many days later; negative for earlier")]


def make(*, now: Clock = present) -> BaseTool:
    """The tool; ``now`` tells it which day today is."""

    def add_days(date: str, days: int) -> str:
        return str(moved(parsed(date, now), days))

    return content_tool(
        "add_days", "Gives the date some days after a date.", AddDaysArguments, add_days
    )
