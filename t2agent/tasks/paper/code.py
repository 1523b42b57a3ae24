"""MBPP (Austin et al. 2021) and HumanEval (Chen et al. 2021): functions that must pass tests.

The code of a reply runs in `t2agent.tasks.sandbox`, never in this process; it is right if it and
all of the problem's tests run to their end. As with the authors, a problem shows the first of its
tests (MBPP) or its signature and docstring (HumanEval), and the base tests count. Deviations: the
authors use EvalPlus's choice of 378 to 399 problems of MBPP and begin the model's reply for it;
here it is the whole of MBPP in its official splits, and the reply is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from t2agent.errors import ConfigError
from t2agent.tasks.paper.base import RealTask, ask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.programs import called, passed, program
from t2agent.tasks.sandbox.run import Program
from t2agent.tasks.task import Example

_SYSTEM = (
    "You are an exceptionally intelligent coding assistant that consistently delivers accurate "
    "and reliable responses to user instructions."
)
_WRITE = "Write a Python function that solves this problem, in one ```python block.\n\n{}"
_SEED = "import random\nrandom.seed(0)\n"  # some tests draw what they ask


@dataclass(frozen=True, slots=True)
class CodeExample(Example):
    """An example with what judges the code.

    Args:
        tests: run after the code.
        names: the functions that the tests call and the code has to define.
        opening: code which a reply may rely on, or which it continues.
    """

    tests: str = ""
    names: tuple[str, ...] = ()
    opening: str = ""


class _Code(RealTask):
    max_tokens = 512

    def score(self, reply: str, example: Example) -> float:
        """1 if the reply's code passes the tests."""
        return self.scores([reply], [example])[0]

    def scores(self, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """`score` of many replies, whose programs run side by side."""
        programs = [self._program(r, e) for r, e in zip(replies, examples, strict=True)]
        return list(map(float, passed(programs)))

    def _program(self, reply: str, example: Example) -> Program:
        if not isinstance(example, CodeExample):
            raise ConfigError(
                f"got an example of another task: {example.prompt!r}; needed one of {self.name!r}"
            )
        return program(reply, example.tests, example.names, example.opening)


class Mbpp(_Code):
    """See the module."""

    name = "mbpp"
    source = Source("google-research-datasets/mbpp", ("full",), ("code", "test_list"))
    splits: ClassVar = {"train": "train", "val": "validation", "test": "test"}

    def example(self, row: dict[str, Any]) -> Example:
        """The problem with its first test; the reference solution."""
        text = row.get("text") or row.get("prompt")  # so it is called in the sanitised version
        tests = list(row["test_list"])
        code = row["code"].replace("\r\n", "\n")
        if not text or not tests:
            raise ConfigError(
                f"got a row without a text or tests: {row!r:.200}; needed rows as in "
                f"{self.source.repository}"
            )
        setup = "\n".join([row.get("test_setup_code") or "", *(row.get("test_imports") or ())])
        problem = f"{text.strip()}\nIt must pass this test:\n```python\n{tests[0].strip()}\n```"
        return CodeExample(
            prompt=ask(_SYSTEM, _WRITE.format(problem)),
            answer=f"```python\n{code.strip()}\n```",
            tests="\n".join([_SEED, setup, *tests]),
            names=called(tests, code),
        )


class HumanEval(_Code):
    """See the module."""

    name = "humaneval"
    source = Source(
        "openai/openai_humaneval",
        ("openai_humaneval",),
        ("prompt", "test", "entry_point", "canonical_solution"),
    )
    splits: ClassVar = {"test": "test"}

    def example(self, row: dict[str, Any]) -> Example:
        """The function's head; head and reference solution."""
        opening, entry = row["prompt"], row["entry_point"]
        problem = f"Complete it:\n```python\n{opening.strip()}\n```"
        return CodeExample(
            prompt=ask(_SYSTEM, _WRITE.format(problem)),
            answer=f"```python\n{opening.strip()}\n{row['canonical_solution'].rstrip()}\n```",
            tests=f"{_SEED}{row['test']}\ncheck({entry})\n",
            names=(entry,),
            opening=opening,
        )
