"""What goes into the two passes, and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from t2agent.dispatch import Decision, Request
from t2agent.generate import Generation, Prompt
from t2agent.prompt import text_of


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
    """What the dispatcher sees of a prompt: the text of the user's last message, how many images
    the whole conversation holds, since the model sees them all, and the tools on offer."""
    if isinstance(prompt, str):
        return Request(prompt)
    for message in reversed(prompt.messages):
        if message["role"] == "user":
            return Request(text_of(message), len(prompt.images), prompt.tools)
    return Request("", len(prompt.images), prompt.tools)
