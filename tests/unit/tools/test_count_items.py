from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_counts(ok: Text, refused: Text) -> None:
    told = ok("count_items", {"items": ["pear", "apple", "pear", 3]})
    assert told == '4 items, 3 different: "pear" 2, "apple" 1, 3 1'
    assert ok("count_items", {"items": []}) == "0 items, 0 different"
    assert ok("count_items", {"items": "a, b, a"}) == '3 items, 2 different: "a" 2, "b" 1'
    assert "items is missing" in refused("count_items", {})
