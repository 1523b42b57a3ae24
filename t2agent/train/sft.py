"""Next-token training, the alternative that the paper compares with (table 4).

What is learnt is an example's answer, or a whole reply with its steps and wording where the task
has ``reference(example)``. Only its tokens and the one that ends it count, not the prompt's. With
``kl`` above 0 the adapted model is held near the base model as in `reinforce`.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2agent.errors import ConfigError
from t2agent.models.likelihood import answer_tokens
from t2agent.tasks.task import Example, Task
from t2agent.train.learner import Learner, Row, StepFigures


def sft_step(learner: Learner, task: Task, examples: Sequence[Example]) -> StepFigures:
    """Add the gradient of the mean negative log-probability of the wanted replies."""
    rows = []
    for index, example in enumerate(examples):
        answer = answer_tokens(learner.model, wanted_reply(task, example))
        # The prompt's characters stand for its tokens: the length only decides what runs together.
        rows.append(Row(index, answer, 1.0, 1, len(example.prompt) + len(answer)))
    tokens = sum(len(row.tokens) for row in rows)
    sums = learner.backward(examples, rows, tokens)
    kl = sums.kl / tokens if learner.options.kl > 0 else None
    return StepFigures((learner.options.kl * sums.kl - sums.objective) / tokens, None, kl, tokens)


def wanted_reply(task: Task, example: Example) -> str:
    """The whole reply to learn: the task's ``reference`` where it has one, else the answer.

    Raises:
        ConfigError: the task's reference is not a string.
    """
    reference = getattr(task, "reference", None)
    reply = example.answer if reference is None else reference(example)
    if not isinstance(reply, str):
        raise ConfigError(
            f"the reference of task {task.name!r} for {example.prompt!r} is a "
            f"{type(reply).__name__}; needed a string, the whole reply that is wanted"
        )
    return reply
