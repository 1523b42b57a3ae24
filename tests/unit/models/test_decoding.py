from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.models.decoding import RowText, decode
from tests.models import END, build_tokenizer

TOKENIZER = build_tokenizer()


def run(tokens: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], RowText]:
    row = RowText(TOKENIZER, stops)
    pieces = []
    for token in tokens:
        pieces.append(row.push(token))
        if row.stopped:
            return pieces, row
    return [*pieces, row.finish()], row


@given(st.lists(st.integers(0, 399), max_size=30))
def test_pieces_together_are_the_text(tokens: list[int]) -> None:
    pieces, row = run(tokens)
    assert "".join(pieces) == row.text == decode(TOKENIZER, tokens)


@given(st.text(max_size=20))
def test_characters_come_whole(text: str) -> None:
    tokens = TOKENIZER(text, split_special_tokens=True)["input_ids"]
    pieces, _ = run(tokens)
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.text("abXY ", max_size=30), st.lists(st.text("abXY", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_stop_that_is_complete_first(text: str, stops: list[str]) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    pieces, row = run(tokens, tuple(stops))
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(found)[1]] if found else text
    assert "".join(pieces) == expected
    assert row.stopped == bool(found)


def test_nothing_of_a_stop_is_handed_out() -> None:
    tokens = TOKENIZER("go STOP now")["input_ids"]
    pieces, row = run(tokens, ("STOP!",))
    assert "".join(pieces) == "go STOP now"
    row = RowText(TOKENIZER, ("STOP!",))
    seen = "".join(row.push(token) for token in TOKENIZER("go STOP")["input_ids"])
    assert seen == "go "
    assert row.finish() == "STOP"


def test_special_tokens_have_no_text() -> None:
    end = TOKENIZER.convert_tokens_to_ids(END)
    pieces, _ = run([*TOKENIZER("Hi")["input_ids"], end])
    assert "".join(pieces) == "Hi"


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_unfinished_character_is_handed_out_at_the_end(cut: int) -> None:
    tokens = TOKENIZER("🙂")["input_ids"][:cut]
    pieces, row = run(tokens)
    assert pieces[:-1] == [""] * cut
    assert row.text == decode(TOKENIZER, tokens) == pieces[-1]
