"""Next-token training, the alternative that the paper compares with (table 4).

What is learnt is an example's answer, or its calls of tools in the model's own format, or a whole
reply with its steps and wording where the task or the example has a ``reference``. Only its tokens
and the one that ends it count, not the prompt's. With ``kl`` above 0 the adapted model is held near
the base model as in `reinforce`.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2agent.models.calls import wanted_tokens
from t2agent.tasks.task import Example, Task, whole_reply
from t2agent.train.learner import Learner, Row
from t2agent.train.lesson import Lesson


def wanted(learner: Learner, task: Task, examples: Sequence[Example]) -> Lesson:
    """The wanted replies: the objective is their mean log-probability a token."""
    rows = []
    for index, example in enumerate(examples):
        answer = wanted_tokens(learner.model, example, whole_reply(task, example))
        rows.append(Row(index, answer, 1.0, 1))
    return Lesson(examples, rows, sum(len(row.tokens) for row in rows))
