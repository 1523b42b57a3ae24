from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_cases(ok: Text, refused: Text) -> None:
    text = "don't PANIC, über"
    assert ok("change_case", {"text": text, "case": "upper"}) == "DON'T PANIC, ÜBER"
    assert ok("change_case", {"text": text, "case": "lower"}) == "don't panic, über"
    assert ok("change_case", {"text": text, "case": "title"}) == "Don't Panic, Über"
    assert ok("change_case", {"text": "İ x", "case": "title"}).endswith(" X")
    told = refused("change_case", {"text": text, "case": "camel"})
    assert "case must be one of upper, lower, title, but 'camel' was given" in told
