"""Tasks made of a user's own examples, and the files that these are read from.

Examples are read from JSON lines; the image files that they name lie beside them, and none is read
from elsewhere.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.errors import ConfigError, ImageRefusedError
from t2agent.tasks.reward import score
from t2agent.tasks.rewards.choice import Reward, reward_function
from t2agent.tasks.rewards.named import NamedReward
from t2agent.tasks.task import SPLITS, Example, check_split, drawn, example_key

if TYPE_CHECKING:
    from PIL.Image import Image

_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


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
        reward: by name, a regular expression in slashes, a sum of these with weights, or a
            function of (reply, example) that returns a number in [-1, 1]: see
            `t2agent.tasks.rewards` and `rewards.choice.reward_function`. "auto": by what the
            examples and their answers look like; `reward_name` says what that is.

    Raises:
        ConfigError: no examples, no name, an unknown reward, or an example that lacks what a
            reward by name needs, such as an answer that "contains" would find in any reply.
    """

    def __init__(
        self,
        name: str,
        examples: Sequence[Example],
        reward: Reward = "auto",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"got the task name {name!r}; needed a string that is not empty")
        if not examples:
            raise ConfigError(f"task {name!r} has no examples; give at least one, better fifty")
        self.name = name
        self._reward = reward_function(reward, examples)
        lacking = self._named.lacks if self._named else lambda _: ""
        if told := next(filter(None, map(lacking, examples)), ""):
            raise ConfigError(f"task {name!r}: {told}")
        self._splits = _split(examples)

    @classmethod
    def from_jsonl(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        reward: Reward = "auto",
    ) -> ExampleTask:
        """Read one example a line: ``{"prompt": ..., "answer": ..., "image": "a.png"}``.

        ``image`` is optional: a file beside or below the JSON-lines file, never outside its
        folder. Other fields are ignored, and a warning names them; so are empty lines.
        ``name`` is the file's stem if not given.

        Raises:
            ConfigError: the file cannot be read or has no examples, or a line is bad; the
                message names the line and what is needed.
        """
        file = Path(path)
        return cls(file.stem if name is None else name, read_examples(file), reward)

    def __len__(self) -> int:
        return sum(len(members) for members in self._splits.values())

    def split(self, split: str) -> tuple[Example, ...]:
        """All examples of a split, in the order given."""
        check_split(split)
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
        return drawn(pool, n, seed, split)

    def reward(self, reply: str, example: Example) -> float:
        """The reward that the task was made with."""
        return self._reward(reply, example)

    def rewards(self, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """`reward` of many replies; programs in them run side by side."""
        if self._named is not None and self._named.together is not None:
            return self._named.together(replies, examples)
        return [score(self, *pair) for pair in zip(replies, examples, strict=True)]

    @property
    def reward_name(self) -> str:
        """What the reward is called, such as "label of 2"; "" for a function of the user's."""
        return self._named.name if self._named else ""

    @property
    def earned_by_saying_everything(self) -> tuple[str, ...]:
        """The names of its rewards that a reply earns by saying everything."""
        return self._named.earned_by_saying_everything if self._named else ()

    @property
    def _named(self) -> NamedReward | None:
        return self._reward if isinstance(self._reward, NamedReward) else None


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


def _place(key: bytes) -> str:
    position = int.from_bytes(key[:8], "big") / 2**64
    if position < _SHARES["train"]:
        return "train"
    return "val" if position < _SHARES["train"] + _SHARES["val"] else "test"


_KNOWN = ("prompt", "answer", "image")
_OTHER = ("labels", "must_say", "test", "test_list", "entry_point")  # what rewards look at
_NEEDED = 'needed {"prompt": string, "answer": string} and optionally "image": path'


def read_examples(path: Path) -> list[Example]:
    """The examples of a file, one JSON object a line; images are decoded to RGB.

    One warning names all the fields that are ignored.

    Raises:
        ConfigError: the file cannot be read or a line is bad; the message names the line.
    """
    examples = []
    unknown: set[str] = set()
    for place, fields in json_lines(path, _NEEDED):
        unknown |= fields.keys() - {*_KNOWN, *_OTHER}
        try:
            image = fields.get("image")
            photograph = None if image is None else image_in(path.parent, image)
            texts = _text(fields, "prompt"), _text(fields, "answer")
            other = {name: fields[name] for name in _OTHER if name in fields}
            examples.append(Example(*texts, photograph, other=other))
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
    if not examples:
        raise ConfigError(f"{path} holds no examples; each line {_NEEDED}")
    if unknown:
        warnings.warn(
            f"{path.name}: unknown fields are ignored: {', '.join(map(repr, sorted(unknown)))}; "
            f"known are {', '.join(_KNOWN)}",
            stacklevel=2,
        )
    return examples


def json_lines(path: Path, needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, and where each stands; empty lines are passed over.

    Raises:
        ConfigError: the file cannot be read, or a line is no JSON object, with what is ``needed``.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the examples in {path}: {error.strerror or error}; "
            "give the path of a JSON-lines file"
        ) from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            fields = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{place}: not a JSON object in UTF-8 ({error}); {needed}") from error
        if not isinstance(fields, dict):
            raise ConfigError(f"{place}: {needed}, got JSON of type {type(fields).__name__}")
        yield place, fields


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise ConfigError(f"no {name!r} among the fields {sorted(fields)}; {_NEEDED}")
    value = fields[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is {value!r}, not a string; {_NEEDED}")
    return value


def image_in(folder: Path, name: object) -> Image:
    """The image of a file in or below ``folder``, whose path in it is ``name``.

    Raises:
        ConfigError: ``name`` is no path or leads out of the folder, or `read_image_file` refuses
            the file.
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
    from t2agent.images import read_image_file

    try:
        return read_image_file(file)
    except ImageRefusedError as error:
        raise ConfigError(f"the image {name!r} cannot be decoded: {error}") from error
