from __future__ import annotations

from collections.abc import Callable

import pytest

Text = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("abc def", "fed cba"),
        ("a\nb", "b\na"),
        ("cafe\u0301!", "!e\u0301fac"),
        ("🇫🇷🇩🇪", "🇩🇪🇫🇷"),
        ("a👩\u200d👧b", "b👩\u200d👧a"),
        ("👍🏽x", "x👍🏽"),
        ("", ""),
        ("\u0301a", "a\u0301"),
        ("x\ud800", "?x"),
    ],
)
def test_backwards(ok: Text, text: str, result: str) -> None:
    assert ok("reverse_text", {"text": text}) == result
