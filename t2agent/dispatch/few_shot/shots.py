"""The few examples that a mixture is searched with, and how replies to them are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2agent.errors import ConfigError
from t2agent.experts.card import Modality
from t2agent.models.prompt import Prompt
from t2agent.tasks.examples import ExampleTask
from t2agent.tasks.reward import score, scores
from t2agent.tasks.rewards.choice import Reward
from t2agent.tasks.task import Example, Task, longest_reply, whole_reply


@dataclass(frozen=True, slots=True)
class Shots:
    """Examples with the task that judges replies to them.

    ``references``: for each, the whole reply that is wanted, "" where none is known.
    ``max_tokens`` bounds a reply. ``bare``: answers are found in replies, of which they are no
    example.
    """

    task: Task
    examples: tuple[Example, ...]
    references: tuple[str, ...]
    max_tokens: int
    bare: bool = False

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def modality(self) -> Modality:
        """ "image" where an example has one."""
        return "text" if all(example.image is None for example in self.examples) else "image"

    def prompts(self) -> list[Prompt]:
        """What each example asks."""
        return list(map(Prompt.of, self.examples))

    def score(self, reply: str, row: int) -> float:
        """The reward of a reply to an example. Raises ConfigError where it is unusable."""
        return score(self.task, reply, self.examples[row])

    def scores(self, replies: Sequence[str], rows: Sequence[int]) -> list[float]:
        """`score` of many replies at once."""
        return scores(self.task, replies, [self.examples[row] for row in rows])

    def reference(self, row: int) -> str:
        """The text of the whole reply that is wanted, "" where none is known.

        The answer is one where it earns a reward above 0, but not where the reward finds it in
        replies of any form.
        """
        answer = self.examples[row].answer
        called = bool(self.examples[row].calls)
        whole = not called and not self.bare and self.score(answer, row) > 0
        return self.references[row] or (answer if whole else "")


Examples = Task | Shots | Iterable[Example | tuple[str, ...] | list[str]]
"""What `gather` takes."""


def gather(
    examples: Examples,
    reward: Reward | None = None,
    *,
    count: int = 10,
    seed: int = 0,
    max_tokens: int | None = None,
) -> Shots:
    """Examples in the form that the search wants.

    Args:
        examples: a task, of which ``count`` examples are drawn from its train split; or a
            sequence of (request, answer) pairs, of (request, answer, whole reply) triples, or of
            `Example`s. What was gathered already is given back.
        reward: as of `ExampleTask`; None for the task's own, and for a sequence "auto": the
            answers are found in the replies.
        count: how many examples of a task.
        seed: of the draw.
        max_tokens: longest reply; None for `longest_reply` of the task.

    Raises:
        ConfigError: there are no examples, one is of another form, or as `ExampleTask`.
    """
    if isinstance(examples, Shots):
        return examples
    if isinstance(examples, Task):
        drawn = tuple(examples.sample(count, seed=seed, split="train"))
    elif isinstance(examples, Iterable) and not isinstance(examples, str):
        drawn = tuple(map(_example, examples))
    else:
        raise ConfigError(f"examples is {examples!r:.60}; give (request, answer) pairs, or a task")
    if not drawn:
        raise ConfigError("there are no examples to adapt to; give at least one, better ten")
    task = examples if isinstance(examples, Task) else ExampleTask("examples", drawn)
    reward = "auto" if reward is None and task is not examples else reward
    judge = task if reward is None else ExampleTask(task.name, drawn, reward)
    references = tuple(whole_reply(task, example) for example in drawn)
    bare = isinstance(reward, str | Mapping) and reward != "exact"
    return Shots(judge, drawn, references, max_tokens or longest_reply(task), bare)


def _example(given: Any) -> Example:
    if isinstance(given, Example):
        return given
    if (
        isinstance(given, tuple | list)
        and len(given) in (2, 3)
        and all(isinstance(part, str) for part in given)
        and given[0].strip()
    ):
        return Example(given[0], given[1], reference="".join(given[2:]))
    raise ConfigError(
        f"an example is {given!r:.80}; give a pair of strings, the request and the answer, or "
        "a t2agent.train.Example"
    )
