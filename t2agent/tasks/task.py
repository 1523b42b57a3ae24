"""What an expert is trained on: examples, and tasks, which give them and judge replies."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

SPLITS: tuple[str, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """A request, the answer that is wanted and, for vision-language models, an image.

    Attributes:
        prompt: the request.
        answer: what is wanted; the task says what it means.
        image: stands before the request.
        steps: what has happened since the request and the reply is to go on from, as messages in
            Hugging Face's chat form: the model's calls of tools, and their results.
        reference: a whole reply as it is wanted, where ``answer`` is only its result.
        tools: what the model may call, as OpenAI's function tools.
        calls: the calls that are wanted, {"name": ..., "arguments": {...}} each; none, with tools:
            a reply in words is.
        other: more fields of the row that the example was made of, for rewards: see
            `t2agent.tasks.rewards`.

    Raises:
        ConfigError: the prompt is empty, or prompt or answer is not a string.
    """

    prompt: str
    answer: str
    image: Image | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    reference: str = ""
    tools: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    calls: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    other: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ConfigError(f"got the prompt {self.prompt!r}; needed a string that is not empty")
        if not isinstance(self.answer, str):
            raise ConfigError(
                f"got the answer {self.answer!r} for {self.prompt!r}; needed a string"
            )


@runtime_checkable
class Task(Protocol):
    """Where examples come from and how a reply is judged.

    A task may also have an integer ``max_tokens``: the longest reply that is sampled for it,
    unless the caller of `train_expert` says otherwise. Short limits make training fast. And it may
    have a method ``reference(example) -> str``: a whole reply that earns the full reward, in place
    of ``example.reference``; next-token training learns it rather than ``example.answer``. And
    where many replies at once are judged faster than one by one, a method ``rewards(replies,
    examples) -> list[float]``: the `reward` of each.
    """

    @property
    def name(self) -> str:
        """The task's name, also the expert's unless another is given."""

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of "train", "val" or "test", which never overlap; set by the seed."""

    def reward(self, reply: str, example: Example) -> float:
        """How good a reply is, in [-1, 1]."""


def longest_reply(task: Task) -> int:
    """How many tokens a reply has at most: the task's ``max_tokens``, else 128."""
    return int(getattr(task, "max_tokens", 128))


def whole_reply(task: Task, example: Example) -> str:
    """The whole reply that is wanted: the task's ``reference(example)`` where it has that, else
    the example's own ``reference``; "" where neither is known.

    Raises:
        ConfigError: the task's reference is not a string.
    """
    own = getattr(task, "reference", None)
    reply = example.reference if own is None else own(example)
    if not isinstance(reply, str):
        raise ConfigError(
            f"the reference of task {task.name!r} for {example.prompt!r} is a "
            f"{type(reply).__name__}; needed a string, the whole reply that is wanted"
        )
    return reply


def check_split(split: str) -> None:
    """Raise ConfigError for what is none of `SPLITS`."""
    if split not in SPLITS:
        raise ConfigError(f"got the split {split!r}; needed one of {', '.join(SPLITS)}")


def drawn(pool: Sequence[T], n: int, seed: int, split: str) -> list[T]:
    """``n`` of the members of a split, by the seed: without repeats while there are enough."""
    rng = random.Random(f"{seed} {split}")
    found = rng.sample(pool, min(n, len(pool)))
    return found + rng.choices(pool, k=n - len(found))


def distinct(examples: Sequence[Example]) -> list[Example]:
    """Without repeats, which a small split has when more are asked for than there are."""
    found = {(e.prompt, e.answer, id(e.image), repr(e.steps)): e for e in examples}
    return list(found.values())


def example_key(example: Example) -> bytes:
    """A hash of prompt and image."""
    digest = hashlib.sha256(example.prompt.encode("utf-8", "surrogatepass"))
    if example.image is not None:
        digest.update(f"\0{example.image.mode} {example.image.size}\0".encode())
        digest.update(example.image.tobytes())
    return digest.digest()
