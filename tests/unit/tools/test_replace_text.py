from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_replaced(ok: Text) -> None:
    arguments = {"text": "a cat, a hat", "find": "a ", "replace": "the "}
    assert ok("replace_text", arguments) == "the cat, the hat"
    assert ok("replace_text", {"text": "a-b", "find": "-", "replace": ""}) == "ab"


def test_errors(refused: Text) -> None:
    base = {"text": "abc", "find": "B", "replace": "x"}
    assert "capitals too" in refused("replace_text", base)
    assert "empty" in refused("replace_text", {**base, "find": ""})
    bomb = {"text": "a" * 20_000, "find": "a", "replace": "b" * 20_000}
    assert "20,000 characters" in refused("replace_text", bomb)
