from __future__ import annotations

from collections.abc import Callable

Text = Callable[..., str]


def test_what_is_told(ok: Text) -> None:
    assert (
        ok("describe_numbers", {"numbers": [0.1, 0.2, 0.3, 1]})
        == "count 4, sum 1.6, mean 0.4, median 0.25, smallest 0.1, largest 1"
    )
    assert "mean 0.333333333333" in ok("describe_numbers", {"numbers": "0 0 1"})
    huge = ok("describe_numbers", {"numbers": [10**300, -(10**300), 1e-300]})
    assert huge.startswith("count 3, sum 1e-300")


def test_an_empty_list(refused: Text) -> None:
    assert "at least one" in refused("describe_numbers", {"numbers": []})
    assert "1,000 items" in refused("describe_numbers", {"numbers": [1] * 2000})
