"""What goes into the two passes, and what comes out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2agent.dispatch import Decision, Request
from t2agent.models.generate import Generation, Prompt
from t2agent.models.prompt import Message, text_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What the second pass generated, and what the first had decided.

    ``seconds``: the time of the second pass; of prompts that were answered together, each bears
    an equal share, as of the first pass in ``decision.seconds``.
    """

    generation: Generation
    decision: Decision
    seconds: float = field(default=0.0, compare=False)

    @property
    def first_pass_share(self) -> float:
        """The share of the first pass in the time of both, from 0 to 1."""
        total = self.decision.seconds + self.seconds
        return self.decision.seconds / total if total > 0 else 0.0


def request(prompt: Prompt | str) -> Request:
    """What the dispatcher sees of a prompt."""
    if isinstance(prompt, str):
        return Request(prompt)
    return last_request(prompt.messages, len(prompt.images), prompt.tools)


def last_request(
    messages: Sequence[Message], images: int, tools: tuple[Mapping[str, Any], ...]
) -> Request:
    """What the dispatcher sees of a conversation: the text of the user's last message, how many
    images the whole conversation holds, since the model sees them all, and the tools on offer."""
    for message in reversed(messages):
        if message["role"] == "user":
            return Request(text_of(message), images, tools)
    return Request("", images, tools)
