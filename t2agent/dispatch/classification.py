"""A task to train the classifier expert on: which kind of request is this?

    task = ClassificationTask("classifier", {"math": math_task, "code": code_task}, others=chat)
    model.registry.register(train_expert(model, task))

Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3, the classification expert: it is trained
on the requests of the experts' own tasks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from t2agent.dispatch.dispatcher import CLASSIFIER, OTHERS, Request, category_question
from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.tasks.examples import ExampleTask
from t2agent.tasks.rewards.texts import exact
from t2agent.tasks.task import Example, Task, check_split

_PROBES = 8  # examples that tell whether a label's requests come with images


class ClassificationTask:
    """Category questions about the requests of other tasks, as `ClassifierDispatcher` asks them.

    The labels come equally often, "others" as one of them where it has requests. An example is
    of the same split as the one that it is made of. Its image is not passed on, the question
    only says that there is one; questions about requests without an image do not offer the labels
    whose requests have one. Rewarded is the bare name, +1, anything else -1.

    Args:
        name: the task's, and with that the expert's: "classifier" is what dispatch looks for.
        tasks: label -> the task whose requests it stands for; labels are names of experts.
        others: requests that no expert is meant for; at least three different ones, if any.

    Raises:
        ConfigError: there are fewer than two kinds of request, or a label is no expert's name, or
            is "others" or the task's own name.
    """

    max_tokens = 16

    def __init__(self, name: str, tasks: Mapping[str, Task], others: Sequence[str] = ()) -> None:
        self.name = check_name(name)
        wrong = {OTHERS, CLASSIFIER, name} & tasks.keys()
        if wrong:
            raise ConfigError(
                f"{min(wrong)!r} cannot be a label: it is never the expert for a request; give "
                "the names of the experts to choose among"
            )
        self._tasks = {check_name(label): tasks[label] for label in sorted(tasks)}
        self._seeing = frozenset(label for label, task in self._tasks.items() if _sees(task))
        if others:
            examples = [Example(text, OTHERS) for text in dict.fromkeys(others)]
            self._tasks[OTHERS] = ExampleTask(OTHERS, examples)
        if len(self._tasks) < 2:
            raise ConfigError(
                f"got {len(self._tasks)} kind(s) of request; needed at least two to tell apart: "
                "give more tasks, or requests of no task as `others`"
            )

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` questions of a split; set by the seed.

        Raises:
            ConfigError: the split is unknown, or a task has no examples of it.
        """
        check_split(split)
        rng = random.Random(f"{self.name} {split} {seed}")
        labels = list(self._tasks)
        counts = {label: n // len(labels) for label in labels}
        for label in rng.sample(labels, n % len(labels)):
            counts[label] += 1
        questions = [
            self._question(example, label)
            for label, count in counts.items()
            if count
            for example in self._tasks[label].sample(count, seed=rng.getrandbits(31), split=split)
        ]
        rng.shuffle(questions)
        return questions

    def reward(self, reply: str, example: Example) -> float:
        """+1 for the bare name of the label, else -1."""
        return exact(reply, example)

    def _question(self, example: Example, label: str) -> Example:
        request = Request(example.prompt, len(example.images), example.tools)
        names = [
            n for n in self._tasks if n != OTHERS and (request.images or n not in self._seeing)
        ]
        return Example(category_question(request, names), label)


def _sees(task: Task) -> bool:
    """Whether the requests of a task come with images, as `train_expert` would find."""
    return any(example.image is not None for example in task.sample(_PROBES, seed=0))
