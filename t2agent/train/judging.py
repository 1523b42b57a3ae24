"""Replies are judged by a task as the model's tool format reads them; and how far to trust that."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from t2agent.models.calls import readable
from t2agent.models.model import T2Model
from t2agent.tasks.reward import scores
from t2agent.tasks.rewards.texts import named_labels, values_to_say
from t2agent.tasks.task import Example, Task

_TIMES, _WORDS = 4, 10  # longer than the answers, and by so many words, is doubtful
_SEVERAL = 0.2  # of the replies may have several answers in them


def judged(
    model: T2Model, task: Task, texts: Sequence[str], examples: Sequence[Example]
) -> list[float]:
    """The reward of each reply to the example of the same place.

    Raises ConfigError as `t2agent.tasks.reward.scores`.
    """
    return scores(task, read(model, texts, examples), examples)


def read(model: T2Model, texts: Sequence[str], examples: Sequence[Example]) -> list[str]:
    """Replies as rewards read them: see `readable`."""
    return [readable(model, one, text) for one, text in zip(examples, texts, strict=True)]


def says_everything(task: Task, replies: Sequence[str], examples: Sequence[Example]) -> str | None:
    """What is doubtful of rewards that can be earned by saying everything; None where nothing is.

    That is told where the task's reward is such a one (``earned_by_saying_everything``, as
    `ExampleTask` has it), and the replies are much longer than the answers, or many have several
    of the answers in them.
    """
    names = getattr(task, "earned_by_saying_everything", ())
    if not names or not replies:
        return None
    rewards = " and ".join(f"`{name}`" for name in names)
    told = f"the reward {rewards} can be earned by saying everything"
    answers = [one.answer for one in examples if one.answer.strip()]
    several = sum(len(named_labels(answers, reply)) > 1 for reply in replies)
    if several > _SEVERAL * len(replies):
        return (
            f"{several} of {len(replies)} replies have several of the answers in them: {told}; "
            "`label` takes such replies as wrong"
        )
    said = mean(len(reply.split()) for reply in replies)
    wanted = mean(len(_wanted(example).split()) for example in examples)
    if said > max(_TIMES * wanted, wanted + _WORDS):
        return (
            f"replies are {said / max(wanted, 1):.0f} times as long as the answers: {told}; "
            "look at some, or set max_tokens to what a right reply takes"
        )
    return None


def _wanted(example: Example) -> str:
    return example.answer if example.answer.strip() else " ".join(values_to_say(example))
