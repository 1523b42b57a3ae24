from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from t2agent.toolbox import load_tools

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("numbers", "result"),
    [
        ([3, 1, 2], "[1, 2, 3]"),
        ([2.5, -1, "0"], "[-1, 0, 2.5]"),
        ("3, 1, 2", "[1, 2, 3]"),
        ("3 1 2", "[1, 2, 3]"),
        ("[3, 1]", "[1, 3]"),
        ([], "[]"),
        ([10**200, 1], f"[1, {10**200}]"),
    ],
)
def test_sorted(ok: Text, numbers: Any, result: str) -> None:
    assert ok("sort_numbers", {"numbers": numbers}) == result


@pytest.mark.parametrize(
    "numbers",
    [
        ["a"], [None], [[1]], {"a": 1}, 3, "a, b", [float("nan")], [10**400], [1] * 1001, None,
        ["a"] * 10**5, "1," * 10**6, "[" * 10**4, "[" * 10**6, [{}] * 10**5,
    ],
)  # fmt: skip
def test_no_numbers(refused: Text, numbers: Any) -> None:
    told = refused("sort_numbers", {"numbers": numbers})
    assert "Call it again with numbers (a list of numbers)" in told


def test_an_argument_that_it_has_not_is_no_order(refused: Text) -> None:
    told = refused("sort_numbers", {"numbers": [1], "descending": True})
    assert "no argument 'descending'" in told


def test_a_bare_text_is_its_argument() -> None:
    (tool,) = load_tools("sort_numbers")
    assert tool.invoke("3 1 2") == "[1, 2, 3]"
