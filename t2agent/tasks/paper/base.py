"""What the paper's tasks have in common: splits, drawing examples, from score to reward."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from t2agent.errors import ConfigError
from t2agent.tasks.paper.rows import Rows, Source, column, data_folder, read_split
from t2agent.tasks.task import Example, check_split, drawn

_VAL_SHARE = 0.1


class RealTask(ABC):
    """A task over a public data set. Satisfies `t2agent.train.Task`.

    Splits: the official test split is "test". Where the data set has a validation split, that is
    "val"; where it has none, a tenth of the official training split is, by a hash of the
    question, so that a question asked twice is on one side.

    Args:
        path: a folder with the data, see `rows.read_split`; None for the Hub.
    """

    name: ClassVar[str]
    max_tokens: ClassVar[int]
    source: ClassVar[Source]
    splits: ClassVar[dict[str, str]]
    key: ClassVar[str]  # the question's column, where a tenth of the training split is "val"

    def __init__(self, path: Path | str | None = None) -> None:
        self._folder = data_folder(self.name, path)
        self._parts: dict[str, tuple[Rows, Sequence[int]]] = {}

    @abstractmethod
    def example(self, row: dict[str, Any]) -> Example:
        """The example that a row of the data set makes."""

    @abstractmethod
    def score(self, reply: str, example: Example) -> float:
        """How right a reply is, in [0, 1]: what reports show the mean of."""

    def scores(self, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """`score` of many replies."""
        return [self.score(*pair) for pair in zip(replies, examples, strict=True)]

    def reward(self, reply: str, example: Example) -> float:
        """The score, stretched to [-1, 1]."""
        return self.rewards([reply], [example])[0]

    def rewards(self, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """`reward` of many replies."""
        return [2.0 * score - 1.0 for score in self.scores(replies, examples)]

    def size(self, split: str) -> int:
        """How many examples a split has."""
        return len(self._part(split)[1])

    def all(self, split: str) -> list[Example]:
        """Every example of a split, in the data set's order."""
        rows, indexes = self._part(split)
        return [self.example(rows[index]) for index in indexes]

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples drawn with this seed: without repeats while there are enough.

        Raises:
            ConfigError: the data set has no such split, or its data are not to be had.
        """
        rows, indexes = self._part(split)
        return [self.example(rows[index]) for index in drawn(indexes, n, seed, split)]

    def _part(self, split: str) -> tuple[Rows, Sequence[int]]:
        check_split(split)
        if split not in self._parts:
            self._parts[split] = self._read(split)
        return self._parts[split]

    def _read(self, split: str) -> tuple[Rows, Sequence[int]]:
        official = self.splits.get(split)
        divided = split in ("train", "val") and "val" not in self.splits and "train" in self.splits
        if divided:
            official = self.splits["train"]
        if official is None:
            raise ConfigError(
                f"task {self.name!r} has no {split!r} split: {self.source.repository} has only a "
                f"split to test with. Train on another task, and ask for split='test' here"
            )
        rows = read_split(self.name, self.source, official, self._folder)
        if not divided:
            return rows, range(len(rows))
        keys = [_is_val(str(text)) for text in column(rows, self.key)]
        indexes = [index for index, val in enumerate(keys) if val == (split == "val")]
        if not indexes:
            raise ConfigError(
                f"the {split!r} split of task {self.name!r} is empty: it is a part of "
                f"{len(rows)} row(s); needed more of {self.source.repository}"
            )
        return rows, indexes


def _is_val(text: str) -> bool:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < _VAL_SHARE * 2**64


def ask(system: str, question: str) -> str:
    """A prompt of the authors' system message and the question: one turn of the user."""
    return f"{system.strip()}\n\n{question.strip()}"
