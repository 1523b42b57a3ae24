from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_counts(ok: Text, refused: Text) -> None:
    told = ok("count_characters", {"text": "Über 30 °C"})
    assert told == "10 characters: 5 letters, 2 digits, 2 blanks"
    assert ok("count_characters", {"text": ""}).startswith("0 characters")
    assert "text must be a text" in refused("count_characters", {"text": None})
