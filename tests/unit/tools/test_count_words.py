from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_counts(ok: Text, refused: Text) -> None:
    assert ok("count_words", {"text": "the quick  brown\nfox"}) == "4"
    assert ok("count_words", {"text": ""}) == "0"
    assert ok("count_words", {"text": 12}) == "1"
    assert "20,000 are the most" in refused("count_words", {"text": "a " * 10**6})
