"""Programs in replies: the code of a reply is found, completed and run with tests.

It runs in `t2agent.tasks.sandbox`, never in this process.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence

from t2agent.tasks.sandbox.run import Program, protection, run_many

SECONDS = 5.0
"""Wall-clock time for a program and its tests."""

_FENCE = re.compile(r"(?ms)^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)")
_PYTHON = ("", "python", "py", "python3")


def passed(programs: Sequence[Program]) -> list[bool]:
    """Whether each program and its tests run to their end; they run side by side."""
    _warn_once()
    return [result.finished for result in run_many(programs, seconds=SECONDS)]


def program(reply: str, tests: str, names: Sequence[str] = (), opening: str = "") -> Program:
    """The program of a reply and its tests.

    Args:
        reply: text with code in it.
        tests: run after the code.
        names: the functions that the tests call and the code has to define.
        opening: code which a reply may rely on, or which it continues.
    """
    code = extract(reply, names)
    if opening:
        code = _continue(opening, code, names)
    return Program(code, tests=tests, expose=tuple(names))


def extract(reply: str, names: Sequence[str] = ()) -> str:
    """The code in a reply: the last block that defines one of the names, else the first block.

    A reply without a block is code as a whole; a block that is not closed goes to the end.
    """
    blocks = [body for tag, body in _FENCE.findall(reply) if tag.lower() in _PYTHON]
    if not blocks:
        return reply
    fitting = [block for block in blocks if defines(block, names)]
    return textwrap.dedent(fitting[-1] if fitting else blocks[0])


def defines(code: str, names: Sequence[str]) -> bool:
    """Whether code defines one of the names."""
    return any(re.search(rf"(?m)^[ \t]*(?:def|class) +{re.escape(n)}\b", code) for n in names)


def called(tests: Sequence[str], code: str) -> tuple[str, ...]:
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


def _continue(opening: str, code: str, names: Sequence[str]) -> str:
    """The program of a head and either the function anew or just its body."""
    if defines(code, names):
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


def _warn_once() -> None:
    if not protection() & {"namespaces", "seccomp"}:
        warnings.warn(
            "this system permits neither namespaces nor seccomp: the code that models write runs "
            "in a process of its own with limits, but is not sealed off (t2agent.tasks.sandbox)",
            RuntimeWarning,
            stacklevel=5,
        )
