"""Tasks made of a user's own examples: of a list, of JSON-lines files, of data sets."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, overload

from t2agent.errors import ConfigError, T2Error
from t2agent.tasks.conversations import FOR_REWARDS, KNOWN, NEEDED, Turns, examples_of
from t2agent.tasks.reward import score
from t2agent.tasks.rewards.choice import Reward, reward_function
from t2agent.tasks.rewards.named import NamedReward
from t2agent.tasks.sources import DatasetRows, JsonLines, Rows
from t2agent.tasks.task import SPLITS, Example, check_split, drawn, example_key

_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
_NAMES = {
    **{name: name for name in SPLITS},
    **dict.fromkeys(("validation", "valid", "dev", "eval"), "val"),
}
_LOOKED_AT = 20_000  # examples whose answers tell which reward fits, and with which it is tried


class ExampleTask:
    """A task over a fixed list of examples.

    Splits: examples with the same prompt (and image, or the same messages and tools) always fall
    into the same split, by a hash of these: 80 % train, 10 % validation, 10 % test. Where that
    leaves a split empty, a prompt of a larger one is moved there: train is filled first, then
    validation, then test, so two different prompts are enough to train and validate. Once no split
    is empty, adding examples moves none of those that were there.

    Args:
        name: the task's name.
        examples: at least one; or the splits that they already have, {"train": ..., "val": ...,
            "test": ...}. Without one for validation, a tenth of train is (and another the test,
            without one of that).
        reward: by name, a regular expression in slashes, a sum of these with weights, or a
            function of (reply, example) that returns a number in [-1, 1]: see
            `t2agent.tasks.rewards` and `rewards.choice.reward_function`. "auto": by what the
            examples and their answers look like; `reward_name` says what that is. A reward by
            name looks at up to 20,000 examples, evenly spaced.

    Raises:
        ConfigError: no examples, no name, an unknown split or reward, or an example that lacks
            what a reward by name needs, such as an answer that "contains" would find in any reply.
    """

    def __init__(
        self,
        name: str,
        examples: Sequence[Example] | Mapping[str, Sequence[Example]],
        reward: Reward = "auto",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"got the task name {name!r}; needed a string that is not empty")
        self.name = name
        self._splits = _given(examples) if isinstance(examples, Mapping) else _split(examples)
        if not len(self):
            raise ConfigError(f"task {name!r} has no examples; give at least one, better fifty")
        step = -(-len(self) // _LOOKED_AT)
        parts = self._splits.values()
        seen = [_judged(part[place]) for part in parts for place in range(0, len(part), step)]
        self._reward = reward_function(reward, seen)
        lacking = self._named.lacks if self._named else lambda _: ""
        if told := next(filter(None, map(lacking, seen)), ""):
            raise ConfigError(f"task {name!r}: {told}")

    @classmethod
    def from_jsonl(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        reward: Reward = "auto",
        turns: Turns = "last",
    ) -> ExampleTask:
        """Read one example a line: ``{"prompt": ..., "answer": ..., "image": "a.png"}``, or a
        conversation in one of the forms of `t2agent.tasks.conversations`, with tools or without.

        ``image`` and ``images`` are optional: files beside or below the JSON-lines file, never
        outside its folder. Other fields are ignored, and a warning names them; so are empty lines.
        ``name`` is the file's stem if not given. A file that ends in .jsonl.gz is read as well.
        ``turns``: "last" for the last message of the assistant as what is wanted, "all" for one
        example of each; those of one conversation fall into one split.

        The file may be larger than memory: all lines are read and checked once, one by one, and
        again when they are sampled. In memory stay some 30 bytes an example.

        Raises:
            ConfigError: the file cannot be read or has no examples, or a line is bad; the
                message names the line, the field and what is needed. Later, when examples are
                sampled: the file has been changed.
        """
        file = Path(path)
        stem = file.name.removesuffix(".gz").removesuffix(".jsonl")
        stem = file.stem if stem == file.name else stem
        examples = RowExamples(JsonLines(file, NEEDED), turns)
        return cls(stem if name is None else name, examples, reward)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        name: str | None = None,
        reward: Reward = "auto",
        turns: Turns = "last",
    ) -> ExampleTask:
        """Take the rows of a `datasets.Dataset`, or of a `DatasetDict` with its splits.

        A row is as a line of `from_jsonl`; its images are PIL's, as `datasets.Image` gives them. A
        list of dicts is taken as well. ``name`` is the data set's own if not given.

        Rows are read when they are sampled, so the data set may be larger than memory; other
        arguments are as of `from_jsonl`.

        Raises:
            ConfigError: a streamed data set, one without rows or with other splits than train,
                validation and test, or a bad row; the message names row and field.
        """
        if isinstance(dataset, Mapping):
            parts = {split: DatasetRows(rows) for split, rows in dataset.items()}
            own = next((rows.name for rows in parts.values()), "")
            examples: Any = {split: RowExamples(rows, turns) for split, rows in parts.items()}
        else:
            rows = DatasetRows(dataset)
            own, examples = rows.name, RowExamples(rows, turns)
        return cls(own if name is None else name, examples, reward)

    def __len__(self) -> int:
        return sum(len(members) for members in self._splits.values())

    def split(self, split: str) -> tuple[Example, ...]:
        """All examples of a split, in the order given."""
        check_split(split)
        return tuple(self._splits[split])

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples drawn with this seed: without repeats while there are enough.

        Raises:
            ConfigError: the split is unknown or empty, or a file has been changed.
        """
        check_split(split)
        pool = self._splits[split]
        if not pool:
            raise ConfigError(
                f"the {split!r} split of task {self.name!r} is empty: {len(self)} example(s) in "
                f"all; give at least {SPLITS.index(split) + 1} different prompts"
            )
        return [pool[place] for place in drawn(range(len(pool)), n, seed, split)]

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


def read_examples(path: Path) -> list[Example]:
    """The examples of a file, all of them, as `ExampleTask.from_jsonl` reads them.

    Raises ConfigError as that does.
    """
    return list(RowExamples(JsonLines(path, NEEDED)))


class RowExamples(Sequence[Example]):
    """Examples that are made of a file's or a data set's rows each time they are asked for.

    All rows are gone through once, one at a time, and so checked; what is kept of an example is
    its row's position, its turn and 8 bytes of its key: some 20 bytes.

    rows: where they are. turns: as of `examples_of`.

    One warning names all the fields that are ignored.

    Attributes:
        keys: the first 8 bytes of what is asked, as a number, as of `example_key`. Turns of one
            conversation have the same one.

    Raises ConfigError where there are no examples, or for a bad row, which the message names.
    """

    def __init__(self, rows: Rows, turns: Turns = "last") -> None:
        if turns not in get_args(Turns):
            raise ConfigError(f"turns is {turns!r}; needed 'last' or 'all'")
        self._rows, self._turns = rows, turns
        self._positions, self._places, self.keys = array("Q"), array("L"), array("Q")
        unknown: set[str] = set()
        for position, place, row in rows:
            unknown |= row.keys() - {*KNOWN, *FOR_REWARDS}
            try:
                found = examples_of(row, rows.image, turns)
            except T2Error as error:
                raise ConfigError(f"{place}: {error}") from error
            key = int.from_bytes(example_key(found[0])[:8], "big")
            for number in range(len(found)):
                self._positions.append(position)
                self._places.append(number)
                self.keys.append(key)
        if not self.keys:
            raise ConfigError(f"{rows.name} holds no examples; each row {NEEDED}")
        if unknown:
            warnings.warn(
                f"{rows.name}: unknown fields are ignored: "
                f"{', '.join(map(repr, sorted(unknown)))}; known are {', '.join(KNOWN)}",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        """The example, or those, read now."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row = self._rows.at(self._positions[place])
        return examples_of(row, self._rows.image, self._turns)[self._places[place]]


@dataclass(frozen=True, slots=True)
class _Chosen(Sequence[Example]):
    """Some of the examples, by their places."""

    examples: Sequence[Example]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | Sequence[Example]:
        if isinstance(place, slice):
            return _Chosen(self.examples, self.places[place])
        return self.examples[self.places[place]]


def _judged(example: Example) -> Example:
    """What a reward looks at: without images and what was said before, which may be large."""
    if not example.messages and example.image is None:
        return example
    return replace(example, prompt=example.prompt or "?", image=None, messages=())


def _split(
    examples: Sequence[Example], names: Sequence[str] = SPLITS
) -> dict[str, Sequence[Example]]:
    """The splits of these names; the shares of others go to train."""
    keys = _keys(examples)
    moved: dict[int, str] = {}
    if {_place(key, names) for key in keys} != {*names}:
        moved = _filled(set(keys), names)
    found = {name: array("L") for name in SPLITS}
    for number, key in enumerate(keys):
        found[moved.get(key) or _place(key, names)].append(number)
    return {name: _Chosen(examples, places) for name, places in found.items()}


def _filled(keys: set[int], names: Sequence[str]) -> dict[int, str]:
    """The split of each key, where one would be empty without moving some."""
    place = {key: _place(key, names) for key in keys}
    for rank, split in enumerate(names):
        members = {name: sorted(k for k, s in place.items() if s == name) for name in names}
        # A split gives its last member only to one that matters more.
        donors = [name for name in names if len(members[name]) > (name not in names[rank:])]
        if not members[split] and donors:
            place[members[max(donors, key=lambda name: len(members[name]))][-1]] = split
    return place


def _place(key: int, names: Sequence[str]) -> str:
    position = key / 2**64
    if position < _SHARES["train"]:
        return "train"
    found = "val" if position < _SHARES["train"] + _SHARES["val"] else "test"
    return found if found in names else "train"


def _given(splits: Mapping[str, Sequence[Example]]) -> dict[str, Sequence[Example]]:
    """Splits as they were given; those that are missing are taken out of train."""
    found: dict[str, Sequence[Example]] = {}
    for name, examples in splits.items():
        split = _NAMES.get(name)
        if split is None or split in found:
            raise ConfigError(
                f"got the splits {', '.join(map(repr, splits))}; needed 'train', and optionally "
                f"one for validation and one for the test, of {', '.join(map(repr, _NAMES))}"
            )
        found[split] = examples
    if "val" not in found:
        missing = [name for name in SPLITS if name == "train" or name not in found]
        own = _split(found.pop("train", ()), missing)
        found = {**own, **found}
    return {name: found.get(name, ()) for name in SPLITS}


def _keys(examples: Sequence[Example]) -> Sequence[int]:
    """The first 8 bytes of what each asks, as a number."""
    if isinstance(examples, RowExamples):
        return examples.keys
    return [int.from_bytes(example_key(one)[:8], "big") for one in examples]
