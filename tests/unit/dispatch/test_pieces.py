"""Long requests: the question is found, and what is pasted beside it has no vote."""

from __future__ import annotations

import numpy as np
import pytest

from t2agent.bench import long_requests
from t2agent.bench.pasted import KINDS, pasted
from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.pieces import MOST, pieces
from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry

SUM = "Tom has 7 bags with 3 apples each and finds 12 more. How many apples?"


@pytest.fixture(scope="module")
def shipped() -> EmbeddingDispatcher:
    return EmbeddingDispatcher(Registry("t2-nano"))


@pytest.mark.parametrize("text", ["", "Hi", SUM, "Which?\n(A) dress\n(B) rake\n\nThank you."])
def test_a_short_request_is_one_piece(text):
    (piece,) = pieces(text)
    assert piece.lengths == (text,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [50, 5_000])
def test_of_a_long_one_few_and_short_pieces_are_read(kind, words):
    for text in (f"{SUM}\n\n{pasted(kind, words, 0)}", f"{pasted(kind, words, 0)}\n\n{SUM}"):
        found = [one for piece in pieces(text) for one in piece.lengths]
        assert len(found) <= MOST
        assert all(len(one.split()) <= 110 for one in found)
        assert any(SUM in one for one in found)


def test_text_without_spaces_is_cut_too():
    assert all(len(t) <= 900 for piece in pieces("漢" * 50_000) for t in piece.lengths)


@pytest.mark.parametrize("words", [200, 2_000])
@pytest.mark.parametrize("kind", ["prose", "foreign", "mail"])
def test_a_sum_is_a_sum_whatever_follows(shipped, kind, words):
    alone, *long = shipped.dispatch(
        [Request(SUM), Request(f"{SUM}\n\n{pasted(kind, words, 1)}"),
         Request(f"{pasted(kind, words, 1)}\n\n{SUM}")]
    )  # fmt: skip
    assert [one.mixture for one in long] == [alone.mixture] * 2


def test_words_within_a_text_are_no_vote(shipped):
    text = pasted("prose", 150, 0)
    asked = f"Summarise this text.\n\n{text} choose json {text} Choose json."
    (found,) = shipped.dispatch([Request(asked)])
    assert not found.mixture


def test_any_kind_of_pasted_text(shipped, monkeypatch):
    monkeypatch.setattr(long_requests, "SIZES", (60, 700))
    found = long_requests.run(requests=1)
    assert found["fine"] >= 0.9
    assert found["kept"] >= 0.7
    assert found["refused"] >= 0.85
    assert found["most_pieces"] <= 1
    assert len(KINDS) == 20
    with pytest.raises(ConfigError, match="at least 1"):
        long_requests.run(requests=0)


def test_a_short_request_is_encoded_once(words, topics):
    dispatcher = EmbeddingDispatcher().fit(topics)
    words.encoded.clear()
    dispatcher.dispatch([Request("fish1 fish")])
    assert words.encoded == ["fish1 fish"]


def test_the_decision_is_by_the_piece_that_asks(words, topics):
    dispatcher = EmbeddingDispatcher().fit(topics)
    pages = " ".join(["iron0 iron1 iron"] * 40)
    for text in (f"fish1 fish fish2?\n\n{pages}", f"{pages}\n\nfish1 fish fish2?"):
        words.encoded.clear()
        (found,) = dispatcher.dispatch([Request(text)])
        assert found.mixture.experts() == {"fish"}
        assert len(words.encoded) <= MOST
    (found,) = dispatcher.dispatch([Request(f"fish1 fish fish2?\n\n{pages}\n\nmoon1 moon moon2?")])
    assert np.array_equal([found.in_scope, bool(found.mixture)], [False, False])
