"""The reward of a program that passes the tests of its example's row."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2agent.tasks.rewards.named import sign, strings_of
from t2agent.tasks.task import Example

if TYPE_CHECKING:
    from t2agent.tasks.sandbox.run import Program


def code(reply: str, example: Example) -> float:
    """+1 when the reply's Python runs and passes the tests of the example's row, else -1.

    It runs in `t2agent.tasks.sandbox`, five seconds at most. The tests are the row's ``test``, a
    text or a list of them, or its ``test_list``; where they define ``check``, it is called with
    the row's ``entry_point``. A prompt that is the head of that function is completed by the reply.
    """
    return together([reply], [example])[0]


def together(replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """`code` of many replies, whose programs run side by side."""
    from t2agent.tasks.programs import passed

    return list(map(sign, passed(list(map(_program, replies, examples)))))


def tests_of(example: Example) -> str:
    """The tests of the example's row, "" where it has none."""
    given = example.other.get("test")
    return given if isinstance(given, str) else "\n".join(strings_of(example, "test", "test_list"))


def _program(reply: str, example: Example) -> Program:
    from t2agent.tasks.programs import called, program

    tests = tests_of(example)
    entry = str(example.other.get("entry_point") or "")
    if not entry:
        return program(reply, tests, called(tests.splitlines(), example.answer))
    if "def check(" in tests and f"check({entry})" not in tests:
        tests += f"\ncheck({entry})\n"
    opening = example.prompt if _is_head(example.prompt) else ""
    return program(reply, tests, (entry,), opening)


def _is_head(text: str) -> bool:
    """Whether a text is Python that ends in the head of a function."""
    try:
        body = ast.parse(f"{text.rstrip()}\n").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    # A docstring is body enough.
    last = body[-1] if body else None
    return isinstance(last, ast.FunctionDef) and ast.get_docstring(last) is not None
