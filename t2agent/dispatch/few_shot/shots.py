"""The few examples that a mixture is searched with, and how replies to them are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, runtime_checkable

from t2agent.errors import ConfigError
from t2agent.experts.card import Modality
from t2agent.models.prompt import Prompt
from t2agent.tasks.reward import Asked, contains, exact, score, scores

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_TOKENS = 128

Reward = Literal["exact", "contains"] | Callable[[str, Any], float]


@dataclass(frozen=True, slots=True)
class Shot:
    """An example from a pair; a task's examples are used as they are.

    ``reference`` is a whole reply as it is wanted, where ``answer`` is only its result.
    """

    prompt: str
    answer: str
    image: Image | None = None
    reference: str = ""


@runtime_checkable
class Source(Protocol):
    """What `gather` needs of a task; `t2agent.train.Task` is one."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Any]:
        """Some examples of a split."""
        ...

    def reward(self, reply: str, example: Any, /) -> float:
        """How good a reply is."""
        ...


@dataclass(frozen=True, slots=True)
class Shots:
    """Examples with their reward; ``max_tokens`` bounds a reply.

    ``whole``: a task's ``reference``, the whole reply that an example wants, where it has one;
    ``rewards``: its rewards of many replies at once, where it has them.
    """

    name: str
    examples: tuple[Asked, ...]
    reward: Callable[[str, Any], float]
    max_tokens: int
    whole: Callable[[Any], str] | None = None
    rewards: Callable[[Sequence[str], Sequence[Any]], Sequence[float]] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def modality(self) -> Modality:
        """ "image" where an example has one."""
        return "image" if any(map(_image, self.examples)) else "text"

    def prompts(self) -> list[Prompt]:
        """Each example as a user's message."""
        return [Prompt.user(example.prompt, _image(example)) for example in self.examples]

    def score(self, reply: str, row: int) -> float:
        """The reward of a reply to an example. Raises ConfigError where it is unusable."""
        return score(self, reply, self.examples[row])

    def scores(self, replies: Sequence[str], rows: Sequence[int]) -> list[float]:
        """`score` of many replies at once."""
        return scores(self, replies, [self.examples[row] for row in rows])

    def reference(self, row: int) -> str:
        """A whole reply that is wanted, or "" where none is known.

        The task's or the example's own, else the answer where that earns a reward above 0.
        """
        example = self.examples[row]
        given = getattr(example, "reference", "") if self.whole is None else self.whole(example)
        if given:
            return str(given)
        return example.answer if self.score(example.answer, row) > 0 else ""


Examples = Source | Shots | Iterable[Asked | tuple[str, ...] | list[str]]
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
            examples (with ``prompt``, ``answer`` and maybe ``image`` and ``reference``). What
            was gathered already is given back.
        reward: "exact", "contains" or a function of (reply, example) to [-1, 1]; None for the
            task's own, and for a sequence "exact".
        count: how many examples of a task.
        seed: of the draw.
        max_tokens: longest reply; None for the task's own ``max_tokens``, else 128.

    Raises:
        ConfigError: there are no examples, one is of another form, or the reward is unknown.
    """
    if isinstance(examples, Shots):
        return examples
    longest = max_tokens or int(getattr(examples, "max_tokens", _MAX_TOKENS))
    if isinstance(examples, Source):
        drawn = tuple(examples.sample(count, seed=seed, split="train"))
        judge = examples.reward if reward is None else _reward(reward)
        name, whole = examples.name, getattr(examples, "reference", None)
        together = getattr(examples, "rewards", None) if reward is None else None
    else:
        if isinstance(examples, str) or not isinstance(examples, Iterable):
            raise ConfigError(
                f"examples is {examples!r:.60}; give (request, answer) pairs, or a task"
            )
        drawn = tuple(_shot(example) for example in examples)
        judge, name = _reward("exact" if reward is None else reward), "examples"
        whole = together = None
    if not drawn:
        raise ConfigError("there are no examples to adapt to; give at least one, better ten")
    return Shots(name, drawn, judge, longest, whole, together)


def _shot(example: object) -> Asked:
    if isinstance(example, tuple | list) and len(example) in (2, 3):
        if all(isinstance(part, str) for part in example) and example[0].strip():
            return Shot(example[0], example[1], None, "".join(example[2:]))
    elif _is_asked(example):
        return example
    raise ConfigError(
        f"an example is {example!r:.80}; give a pair of strings, the request and the answer, or "
        "a t2agent.train.Example"
    )


def _is_asked(example: object) -> TypeGuard[Asked]:
    return all(isinstance(getattr(example, name, None), str) for name in ("prompt", "answer"))


def _reward(given: object) -> Callable[[str, Any], float]:
    if given == "exact":
        return exact
    if given == "contains":
        return contains
    if callable(given):
        return given
    raise ConfigError(
        f"reward is {given!r}; give 'exact', 'contains' or a function of (reply, example)"
    )


def _image(example: Asked) -> Image | None:
    return getattr(example, "image", None)
