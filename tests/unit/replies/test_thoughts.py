"""Thoughts, told from what a reply says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.replies.thoughts import Thoughts

CASES = [
    (None, "Hello <think> no </think>", ("", "Hello <think> no </think>")),
    (None, "<think>\nWell, 3 < 4.\n</think>\n\nYes.", ("Well, 3 < 4.", "Yes.")),
    (None, "  <think>a</think>b ", ("a", "b ")),
    (None, "<thin", ("", "<thin")),
    (None, "<think>never ends ", ("never ends", "")),
    (None, "  plain", ("", "  plain")),
    ("</think>", "Well.\n</think>\n\nYes.\n", ("Well.", "Yes.\n")),
    ("[/THINK]", "a </think> b[/THINK]c", ("a </think> b", "c")),
    ("</think>", "", ("", "")),
]


@pytest.mark.parametrize(("closing", "text", "wanted"), CASES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_and_the_rest(closing, text, wanted, size):
    assert split(closing, [text[at : at + size] for at in range(0, len(text), size)]) == wanted


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "<", "\n", "</", "b "])))
def test_pieces_do_not_matter(parts):
    assert split(None, parts) == split(None, ["".join(parts)])


def split(closing: str | None, pieces: list[str]) -> tuple[str, str]:
    thoughts = Thoughts(closing)
    found = [*map(thoughts.push, pieces), thoughts.push("", last=True)]
    return "".join(one[0] for one in found), "".join(one[1] for one in found)
