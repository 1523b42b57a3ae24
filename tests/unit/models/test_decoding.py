from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.errors import ConfigError
from t2agent.models.decoding import RowText, end_token, end_tokens, reader
from t2agent.models.likelihood import answer_tokens
from tests.architectures import TEXT, VISION, build
from tests.models import END, build_text_model, build_tokenizer
from tests.odd_architectures import ODD
from tests.unit.replies.families import all_templates, model_with

TOKENIZER = build_tokenizer()
READ = reader(TOKENIZER)


def run(tokens: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], RowText]:
    row = RowText(READ, stops)
    pieces = []
    for token in tokens:
        pieces.append(row.push(token))
        if row.stopped:
            return pieces, row
    return [*pieces, row.finish()], row


@given(st.lists(st.integers(0, 399), max_size=30))
def test_pieces_together_are_the_text(tokens: list[int]) -> None:
    pieces, row = run(tokens)
    assert "".join(pieces) == row.text == READ(tokens)


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
    row = RowText(READ, ("STOP!",))
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
    assert row.text == READ(tokens) == pieces[-1]


@pytest.mark.parametrize("own", [None, 2, 7])
@pytest.mark.parametrize("name", [*TEXT, *VISION, *ODD])
def test_a_reply_ends_where_generating_stops(name: str, own: int | None) -> None:
    model, _ = build(name)
    model.tokenizer.eos_token_id = own
    config = model.model.generation_config
    for ends in (config.eos_token_id, None, [], 5, [5, 7], (7, 2)):
        config.eos_token_id = ends
        if ends in (None, []) and own is None:
            assert not end_tokens(model)
            with pytest.raises(ConfigError, match="end-of-sequence"):
                end_token(model)
        else:
            assert end_token(model) in end_tokens(model)
            assert own in (end_token(model), None) or own not in end_tokens(model)


@pytest.mark.parametrize("name", all_templates())
def test_an_answer_of_every_family_ends_where_generating_stops(name: str) -> None:
    model = model_with(all_templates()[name])
    assert answer_tokens(model, "Yes.")[-1] in end_tokens(model)


def test_all_tokens_of_the_generation_config_end_an_answer() -> None:
    model = build_text_model()
    own = model.tokenizer.eos_token_id
    for ends, all_of_them, one in [
        ([3, own], {3, own}, own), ([3, 4], {3, 4}, 3), (3, {3}, 3), (None, {own}, own),
        ([], {own}, own), (0, {0}, 0),
    ]:  # fmt: skip
        model.model.generation_config.eos_token_id = ends
        assert set(end_tokens(model)) == all_of_them
        assert end_token(model) == one
