from __future__ import annotations

from collections.abc import Callable

import pytest

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "find", "told"),
    [
        ("strawberry", "r", "3 times, at character 3, 8, 9"),
        ("Raspberry", "r", "3 times, at character 1, 7, 8"),
        ("a.b", ".", "1 times, at character 2"),
        ("abc", "x", "0 times"),
        ("a" * 30, "a", "30 times, at character " + ", ".join(map(str, range(1, 21))) + ", ..."),
        ("", "x", "0 times"),
    ],
)
def test_found(ok: Text, text: str, find: str, told: str) -> None:
    assert ok("find_in_text", {"text": text, "find": find}) == told


def test_errors(refused: Text) -> None:
    assert "empty" in refused("find_in_text", {"text": "abc", "find": ""})
    assert "200 are the most" in refused("find_in_text", {"text": "abc", "find": "a" * 201})


def test_a_hostile_search_ends(ok: Text) -> None:
    assert ok("find_in_text", {"text": "a" * 20_000, "find": "a" * 199 + "b"}) == "0 times"
