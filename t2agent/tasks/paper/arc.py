"""ARC-Easy and ARC-Challenge (Clark et al. 2018): science questions with three to five options.

As the authors ask and read it: "the answer is (X)", else "Answer: X", else the last letter that
stands alone. Deviations: where several letters are given, the last one counts, as a reply may
think aloud (the authors take the first); a reply without a letter is wrong (the authors draw one);
options numbered 1 to 4 in the data have letters in question and answer (with the authors such a
question cannot be answered right); and a letter beyond the options is wrong.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from t2agent.errors import ConfigError
from t2agent.tasks.paper.base import RealTask, ask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.task import Example

_SYSTEM = (
    "The following are multiple choice questions (with answers). Think step by step and then "
    'finish your answer with "the answer is (X)" where X is the correct letter choice.'
)
_LETTERS = "ABCDEFGHIJ"
_PATTERNS = (
    re.compile(r"[aA]nswer is:?\s*\**\(?([A-J])\b"),
    re.compile(r"[aA]nswer:\**\s*\(?([A-J])\b"),
    re.compile(r"(?<![\w'])([A-E])(?![\w'])"),
)


class _Arc(RealTask):
    max_tokens = 512
    splits: ClassVar = {"train": "train", "val": "validation", "test": "test"}

    def example(self, row: dict[str, Any]) -> Example:
        """The question with its options, lettered in their order."""
        options, labels = row["choices"]["text"], row["choices"]["label"]
        if row["answerKey"] not in labels or len(options) != len(labels):
            raise ConfigError(
                f"the answer {row['answerKey']!r} to {row['question']!r} is none of {labels}; "
                f"needed rows as in {self.source.repository}"
            )
        lines = [f"{_LETTERS[i]}. {option}" for i, option in enumerate(options)]
        question = "\n".join([row["question"], "Options:", *lines])
        letter = _LETTERS[labels.index(row["answerKey"])]
        return Example(ask(_SYSTEM, question), f"The answer is ({letter}).")

    def score(self, reply: str, example: Example) -> float:
        """1 if the reply's letter is the answer's."""
        return float(letter(reply) == letter(example.answer))


class ArcEasy(_Arc):
    """See the module."""

    name = "arc_easy"
    source = Source("allenai/ai2_arc", ("ARC-Easy",), ("question", "choices", "answerKey"))


class ArcChallenge(_Arc):
    """See the module."""

    name = "arc_challenge"
    source = Source("allenai/ai2_arc", ("ARC-Challenge",), ("question", "choices", "answerKey"))


def letter(text: str) -> str | None:
    """The letter that a reply settles on, None without one."""
    for pattern in _PATTERNS:
        if found := pattern.findall(text):
            return str(found[-1])
    return None
