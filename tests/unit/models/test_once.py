from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from t2agent.models.once import Once


def test_others_are_made_while_one_is() -> None:
    kept, inside, go = Once[str, str](2), Event(), Event()

    def slow(key: str) -> str:
        inside.set()
        assert go.wait(20)
        return key

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.of, "a", slow)
        assert inside.wait(20)
        assert kept.of("b", lambda key: key + key) == "bb"
        again = pool.submit(kept.of, "a", lambda key: pytest.fail("made twice"))
        go.set()
        assert first.result(20) == again.result(20) == "a"


def test_what_failed_is_tried_again() -> None:
    kept = Once[str, str](2)
    with pytest.raises(ValueError, match="odd"):
        kept.of("c", lambda key: (_ for _ in ()).throw(ValueError("odd")))
    assert kept.of("c", lambda key: key) == "c"


def test_the_least_recently_wanted_is_forgotten() -> None:
    kept, made = Once[str, str](2), []
    for key in "abacab":
        assert kept.of(key, lambda key: made.append(key) or key) == key
    assert "".join(made) == "abcb"
