"""What of a finished reply does not fit what was asked for; the check of both chat models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from t2agent.engine.reply_form import ReplyForm
from t2agent.errors import GrammarError


@dataclass(slots=True)
class Misfits:
    """Checks the calls of one reply, and its text where it must be JSON.

    form: what was asked for. found: why something does not fit, as response_metadata["misfits"]
    tells it.
    """

    form: ReplyForm = field(default_factory=ReplyForm)
    found: list[str] = field(init=False, default_factory=list)

    def of_call(self, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Why the arguments do not fit the schema of a tool; None where they do."""
        misfit = self.form.misfit(arguments, tool)
        if misfit is None:
            return None
        problem = f"the arguments do not fit the schema of {tool!r}: {misfit}"
        if problem not in self.found:
            self.found.append(problem)
        return problem

    def of_text(self, text: str) -> str | None:
        """Why the text of a reply without calls is not the JSON that was asked for; None where it
        is, and where any text will do."""
        if self.form.schema is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem: str | None = f"it is no JSON: {error}"
        else:
            problem = self.form.misfit(value)
        if problem is not None:
            self.found.append(problem)
        return problem

    def refuse(self, problem: str | None, text: str, finish_reason: str | None) -> None:
        """Raise GrammarError for a reply that is not the JSON that was asked for."""
        if problem is None or self.form.keep:
            return
        cut = finish_reason == "length"
        then = "give more max_tokens" if cut else "ask again, or give a schema that can be held"
        raise GrammarError(
            f"the reply does not fit the schema of response_format: {problem}; {then}, or take it "
            f"as it is with on_misfit='keep'. The reply: {text!r:.300}"
        )
