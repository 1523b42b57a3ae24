"""Where the pieces of a prompt end, and which are kept."""

from __future__ import annotations

import random

import torch

from t2agent.models.prefixes import LEAST, MOST, PrefixCache, piece_ends
from t2agent.models.slots import Held

END = 1


def piece(tokens: int) -> Held:
    return Held(((torch.zeros(2, tokens, 4), torch.zeros(2, tokens, 4)),))


SIZE = piece(1).bytes


def test_pieces_end_with_a_turn_or_where_they_are_long() -> None:
    turn = [7] * (LEAST - 1) + [END]
    assert piece_ends([*turn, *turn, 7], [END]) == [LEAST, 2 * LEAST]
    assert piece_ends([7, END, *turn, 7], [END]) == [LEAST + 2]
    assert piece_ends([7] * (2 * MOST + 1), [END]) == [MOST, 2 * MOST]
    assert piece_ends(turn, [END]) == []  # something is left to read


def test_where_a_piece_ends_depends_on_what_comes_before() -> None:
    chance = random.Random(0)
    tokens = [END if chance.random() < 0.02 else 7 for _ in range(3000)]
    whole = piece_ends(tokens, [END])
    assert len(whole) > 6
    for length in range(1, 3000, 37):
        assert piece_ends(tokens[:length], [END]) == [end for end in whole if end < length]


def test_the_first_pieces_are_found_up_to_one_that_is_not_known() -> None:
    cache = PrefixCache()
    kept = {name: piece(2) for name in "abd"}
    cache.keep(kept)
    assert cache.find("abcd") == [kept["a"], kept["b"]]
    assert cache.find("xa") == []


def test_within_the_budget_the_first_pieces_stay_longest() -> None:
    cache = PrefixCache(budget=5 * SIZE)
    cache.keep({name: piece(2) for name in "abc"})
    assert cache.bytes == 4 * SIZE
    assert [len(cache.find(names)) for names in ("abc", "c")] == [2, 0]
    cache.keep({"x": piece(1), "large": piece(6), "a": piece(2)})
    assert (len(cache.find("ab")), len(cache.find("x")), cache.bytes) == (2, 1, 5 * SIZE)
    cache.keep({"y": piece(2)})  # b is older than x, and goes before a
    assert (len(cache.find("ab")), cache.bytes) == (1, 5 * SIZE)
    cache.budget = 0
    cache.keep({"z": piece(1)})
    assert cache.bytes == 0
