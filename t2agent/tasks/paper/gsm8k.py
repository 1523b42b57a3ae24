"""GSM8K (Cobbe et al. 2021): word problems whose answer is a whole number.

As the authors do it: the last number in the reply counts. Deviations: they overlook signs and
commas ("70,000" reads as 0 there), which are read here; the calculator's annotations
("<<3*2=6>>") are taken out of the worked answer, which next-token training imitates.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from t2agent.tasks.paper.base import RealTask, ask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.rewards.texts import last_number
from t2agent.tasks.task import Example

_SYSTEM = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
_ANNOTATION = re.compile(r"<<[^<>]*>>")


class Gsm8k(RealTask):
    """See the module."""

    name = "gsm8k"
    max_tokens = 512
    source = Source("openai/gsm8k", ("main",), ("question", "answer"))
    splits: ClassVar = {"train": "train", "test": "test"}
    key = "question"

    def example(self, row: dict[str, Any]) -> Example:
        """The question; the worked answer, which ends in "#### 18"."""
        return Example(ask(_SYSTEM, row["question"]), _ANNOTATION.sub("", row["answer"]))

    def score(self, reply: str, example: Example) -> float:
        """1 if the reply's last number is the answer's."""
        wanted = last_number(example.answer)
        return float(wanted is not None and last_number(reply) == wanted)
