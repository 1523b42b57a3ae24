"""MBPP (Austin et al. 2021) and HumanEval (Chen et al. 2021): functions that must pass tests.

The code of a reply runs in `t2agent.tasks.sandbox`, never in this process; it is right if it and
all of the problem's tests run to their end. As with the authors, a problem shows the first of its
tests (MBPP) or its signature and docstring (HumanEval), and the base tests count. Deviations: the
authors use EvalPlus's choice of 378 to 399 problems of MBPP and begin the model's reply for it;
here it is the whole of MBPP in its official splits, and the reply is the model's own.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from t2agent.errors import ConfigError
from t2agent.tasks.paper.base import RealTask, ask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.sandbox.run import Program, protection, run_many
from t2agent.tasks.task import Example

SECONDS = 5.0
"""Wall-clock time for a program and its tests."""

_SYSTEM = (
    "You are an exceptionally intelligent coding assistant that consistently delivers accurate "
    "and reliable responses to user instructions."
)
_WRITE = "Write a Python function that solves this problem, in one ```python block.\n\n{}"
_FENCE = re.compile(r"(?ms)^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)")
_PYTHON = ("", "python", "py", "python3")
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
        _warn_once()
        programs = [self._program(r, e) for r, e in zip(replies, examples, strict=True)]
        return [float(result.finished) for result in run_many(programs, seconds=SECONDS)]

    def _program(self, reply: str, example: Example) -> Program:
        if not isinstance(example, CodeExample):
            raise ConfigError(
                f"got an example of another task: {example.prompt!r}; needed one of {self.name!r}"
            )
        code = extract(reply, example.names)
        if example.opening:
            code = _continue(example.opening, code, example.names)
        return Program(code, tests=example.tests, expose=example.names)


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
            names=_called(tests, code),
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


def extract(reply: str, names: Sequence[str] = ()) -> str:
    """The code in a reply: the last block that defines one of the names, else the first block.

    A reply without a block is code as a whole; a block that is not closed goes to the end.
    """
    blocks = [body for tag, body in _FENCE.findall(reply) if tag.lower() in _PYTHON]
    if not blocks:
        return reply
    fitting = [block for block in blocks if _defines(block, names)]
    return textwrap.dedent(fitting[-1] if fitting else blocks[0])


def _defines(code: str, names: Sequence[str]) -> bool:
    return any(re.search(rf"(?m)^[ \t]*(?:def|class) +{re.escape(n)}\b", code) for n in names)


def _continue(opening: str, code: str, names: Sequence[str]) -> str:
    """The program of a head and either the function anew or just its body."""
    if _defines(code, names):
        # A docstring is body enough: the head's function stands until it is defined anew.
        return f"{opening}\n    pass\n\n{code}"
    first, _, rest = code.strip("\n").partition("\n")
    if first and not first[0].isspace():
        # The head's last line may have been continued: then only the first line lacks its indent.
        continued = rest.strip() and all(
            line.startswith("    ") for line in rest.split("\n") if line.strip()
        )
        if not continued or first.rstrip().endswith(":"):
            rest = textwrap.indent(rest, "    ")
        first = f"    {first}"
    return f"{opening}{first}\n{rest}\n"


def _called(tests: Sequence[str], code: str) -> tuple[str, ...]:
    """The names that the tests call and the reference solution defines."""
    defined = set(re.findall(r"^(?:def|class) +(\w+)", code, re.MULTILINE))
    called: list[str] = []
    for test in tests:
        try:
            tree = ast.parse(test.strip())
        except (SyntaxError, ValueError):
            continue
        called += [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return tuple(sorted(defined & set(called)))


def _warn_once() -> None:
    if not protection() & {"namespaces", "seccomp"}:
        warnings.warn(
            "this system permits neither namespaces nor seccomp: the code that models write runs "
            "in a process of its own with limits, but is not sealed off (t2agent.tasks.sandbox)",
            RuntimeWarning,
            stacklevel=4,
        )
