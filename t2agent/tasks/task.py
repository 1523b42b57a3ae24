"""What an expert is trained on: examples, tasks, and tasks made from a user's own examples.

Examples are read from JSON lines; the image files that they name lie beside them, and none is read
from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from t2agent.errors import ConfigError
from t2agent.tasks.reward import contains, exact

if TYPE_CHECKING:
    import PIL.Image
    from PIL.Image import Image

SPLITS: tuple[str, ...] = ("train", "val", "test")
_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}

RewardFunction = Callable[[str, "Example"], float]


@dataclass(frozen=True, slots=True)
class Example:
    """A request, the answer that is wanted and, for vision-language models, an image.

    Attributes:
        prompt: the request.
        answer: what is wanted; the task says what it means.
        image: stands before the request.
        steps: what has happened since the request and the reply is to go on from, as messages in
            Hugging Face's chat form: the model's calls of tools, and their results.

    Raises:
        ConfigError: the prompt is empty, or prompt or answer is not a string.
    """

    prompt: str
    answer: str
    image: Image | None = None
    steps: tuple[Mapping[str, Any], ...] = ()

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
    have a method ``reference(example) -> str``: a whole reply that earns the full reward, which
    next-token training learns in place of ``example.answer``. And where many replies at once are
    judged faster than one by one, a method ``rewards(replies, examples) -> list[float]``: the
    `reward` of each.
    """

    @property
    def name(self) -> str:
        """The task's name, also the expert's unless another is given."""

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of "train", "val" or "test", which never overlap; set by the seed."""

    def reward(self, reply: str, example: Example) -> float:
        """How good a reply is, in [-1, 1]."""


class ExampleTask:
    """A task over a fixed list of examples.

    Splits: examples with the same prompt (and image) always fall into the same split, by a hash
    of these two: 80 % train, 10 % validation, 10 % test. Where that leaves a split empty, a prompt
    of a larger one is moved there: train is filled first, then validation, then test, so two
    different prompts are enough to train and validate. Once no split is empty, adding examples
    moves none of those that were there.

    Args:
        name: the task's name.
        examples: at least one.
        reward: "exact" (`reward.exact`), "contains" (`reward.contains`), or a function of
            (reply, example) that returns a number in [-1, 1].

    Raises:
        ConfigError: no examples, no name, an unknown reward, or an answer that "contains" would
            find in any reply.
    """

    def __init__(
        self,
        name: str,
        examples: Sequence[Example],
        reward: Literal["exact", "contains"] | RewardFunction = "exact",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"got the task name {name!r}; needed a string that is not empty")
        if not examples:
            raise ConfigError(f"task {name!r} has no examples; give at least one, better fifty")
        self.name = name
        self._reward = _reward_function(reward)
        if self._reward is contains:
            blank = [example.prompt for example in examples if not example.answer.strip()]
            if blank:
                raise ConfigError(
                    f"task {name!r}: the answer to {blank[0]!r} is empty, so every reply would "
                    "contain it; give an answer, or use reward='exact'"
                )
        self._splits = _split(examples)

    @classmethod
    def from_jsonl(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        reward: Literal["exact", "contains"] | RewardFunction = "exact",
    ) -> ExampleTask:
        """Read one example a line: ``{"prompt": ..., "answer": ..., "image": "a.png"}``.

        ``image`` is optional: a file beside or below the JSON-lines file, never outside its
        folder. Other fields and empty lines are ignored. ``name`` is the file's stem if not given.

        Raises:
            ConfigError: the file cannot be read or has no examples, or a line is bad; the
                message names the line and what is needed.
        """
        from t2agent.tasks.task import read_examples

        file = Path(path)
        return cls(file.stem if name is None else name, read_examples(file), reward)

    def __len__(self) -> int:
        return sum(len(members) for members in self._splits.values())

    def split(self, split: str) -> tuple[Example, ...]:
        """All examples of a split, in the order given."""
        if split not in SPLITS:
            raise ConfigError(f"got the split {split!r}; needed one of {', '.join(SPLITS)}")
        return self._splits[split]

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples drawn with this seed: without repeats while there are enough.

        Raises:
            ConfigError: the split is unknown or empty.
        """
        pool = self.split(split)
        if not pool:
            raise ConfigError(
                f"the {split!r} split of task {self.name!r} is empty: {len(self)} example(s) in "
                f"all; give at least {SPLITS.index(split) + 1} different prompts"
            )
        rng = random.Random(f"{seed} {split}")
        drawn = rng.sample(pool, min(n, len(pool)))
        return drawn + rng.choices(pool, k=n - len(drawn))

    def reward(self, reply: str, example: Example) -> float:
        """The reward that the task was made with."""
        return self._reward(reply, example)


def _reward_function(reward: object) -> RewardFunction:
    if reward == "exact":
        return exact
    if reward == "contains":
        return contains
    if callable(reward):
        return reward
    raise ConfigError(
        f"got the reward {reward!r}; needed 'exact', 'contains' or a function of (reply, example)"
    )


def _split(examples: Sequence[Example]) -> dict[str, tuple[Example, ...]]:
    keys = [example_key(example) for example in examples]
    place = {key: _place(key) for key in set(keys)}
    for rank, split in enumerate(SPLITS):
        members = {name: sorted(k for k, s in place.items() if s == name) for name in SPLITS}
        # A split gives its last member only to one that matters more.
        donors = [name for name in SPLITS if len(members[name]) > (name not in SPLITS[rank:])]
        if not members[split] and donors:
            place[members[max(donors, key=lambda name: len(members[name]))][-1]] = split
    pairs = list(zip(examples, keys, strict=True))
    return {name: tuple(e for e, key in pairs if place[key] == name) for name in SPLITS}


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


def _place(key: bytes) -> str:
    position = int.from_bytes(key[:8], "big") / 2**64
    if position < _SHARES["train"]:
        return "train"
    return "val" if position < _SHARES["train"] + _SHARES["val"] else "test"


_NEEDED = 'needed {"prompt": string, "answer": string} and optionally "image": path'


def read_examples(path: Path) -> list[Example]:
    """The examples of a file, one JSON object a line; images are decoded to RGB.

    Raises:
        ConfigError: the file cannot be read or a line is bad; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the examples in {path}: {error.strerror or error}; "
            "give the path of a JSON-lines file"
        ) from error
    examples = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                examples.append(_example(line, path.parent))
            except ConfigError as error:
                raise ConfigError(f"{path.name}, line {number}: {error}") from error
    if not examples:
        raise ConfigError(f"{path} holds no examples; each line {_NEEDED}")
    return examples


def _example(line: bytes, folder: Path) -> Example:
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not a JSON object in UTF-8 ({error}); {_NEEDED}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"got JSON of type {type(fields).__name__}; {_NEEDED}")
    image = fields.get("image")
    return Example(
        _text(fields, "prompt"),
        _text(fields, "answer"),
        None if image is None else read_image(image, folder),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise ConfigError(f"no {name!r} among the fields {sorted(fields)}; {_NEEDED}")
    value = fields[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is {value!r}, not a string; {_NEEDED}")
    return value


MAX_IMAGE_BYTES = 20 * 2**20
"""A larger image file is refused."""

MAX_IMAGE_PIXELS = 40_000_000
"""An image with more pixels is refused before it is decoded."""


def read_image(name: object, folder: Path) -> PIL.Image.Image:
    """The RGB image of a file in or below ``folder``, whose path in it is ``name``.

    Raises:
        ConfigError: ``name`` is no path or leads out of the folder, or the file is not there, too
            large or not an image.
    """
    if not isinstance(name, str):
        raise ConfigError(f"'image' is {name!r}; needed the path of an image file")
    root = folder.resolve()
    try:
        # Links are followed first, so that one cannot lead out of the folder.
        file = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the image {name!r} is not there; paths start at the file") from error
    if not file.is_relative_to(root) or not file.is_file():
        raise ConfigError(
            f"the image {name!r} is not a file in the examples' own folder; copy it there"
        )
    size = file.stat().st_size
    if size > MAX_IMAGE_BYTES:
        raise ConfigError(
            f"the image {name!r} has {size} bytes; at most {MAX_IMAGE_BYTES} are read: shrink it"
        )
    return _decode(file.read_bytes(), name)


def _decode(data: bytes, name: str) -> PIL.Image.Image:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_IMAGE_PIXELS:
                raise ConfigError(
                    f"the image {name!r} is {opened.width} x {opened.height} pixels; at most "
                    f"{MAX_IMAGE_PIXELS} are read: shrink it"
                )
            return opened.convert("RGB")
    except ConfigError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise ConfigError(
            f"the image {name!r} cannot be decoded ({error}); give a PNG or JPEG file"
        ) from error
