from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("items", "how", "result"),
    [
        (["pear", "Apple", "fig"], "sort", '["Apple", "fig", "pear"]'),
        (["b", 10, "a", 9.5], "sort", '[9.5, 10, "a", "b"]'),
        ("10, 9, b", "sort", '[9, 10, "b"]'),
        ([1, 3, 2], "sort backwards", "[3, 2, 1]"),
        (["a", "b"], "reverse", '["b", "a"]'),
        (["b", "a", "b", 1, "1"], "unique", '["b", "a", 1, "1"]'),
        ('["ü", "x"]', "reverse", '["x", "ü"]'),
        ([], "sort", "[]"),
    ],
)
def test_arranged(ok: Text, items: Any, how: str, result: str) -> None:
    assert ok("arrange_list", {"items": items, "how": how}) == result


@pytest.mark.parametrize(
    ("items", "how", "told"),
    [
        (["a"], "shuffle", "one of sort, sort backwards, reverse, unique"),
        (["a"], None, "one of sort"),
        ([None], "sort", "items must be a list"),
        ([["a"]], "sort", "items must be a list"),
        (["a"] * 1001, "sort", "1,000 items"),
        (["x" * 19_000] * 1000, "sort", "result has"),
        ([float("nan")], "sort", "items is nan"),
    ],
)
def test_errors(refused: Text, items: Any, how: Any, told: str) -> None:
    assert told in refused("arrange_list", {"items": items, "how": how})
