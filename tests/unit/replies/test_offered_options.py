"""Options that requests offer, in many wordings."""

from __future__ import annotations

import time

import pytest

from t2agent.replies.options import offered_options

TEXT = "My parcel has not come yet."


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (f"Classify the text as one of: good, bad.\n\nText: {TEXT}",
         "Classify the text as one of: A, B or C."),
        (f"{TEXT}\n\nWhich of these labels fits: good, bad? Answer with it.",
         "Which of these labels fits: A, B or C?"),
        (f"Label the text with one of [good, bad]: {TEXT}",
         "Label the text with one of [A, B or C]:"),
        (f'Is "{TEXT}" good or bad?', 'Is "text" A, B or C?'),
        (f"{TEXT}\n\ngood or bad?", "A, B or C?"),
        (f"Choose a label.\nLabels:\n- good\n- bad\n\nText: {TEXT}", "Labels: A, B or C"),
        (f"How would you call this: {TEXT}\n1. good\n2. bad", "How would you call this: A, B or C"),
        (f'{TEXT} Choose between "good" and "bad".', 'Choose between "A, B or C".'),
        (f"Tags: good | bad\n{TEXT}", "Tags: A, B or C"),
    ],
)  # fmt: skip
def test_options_and_the_sentence_that_offers_them(request_: str, asked: str) -> None:
    [found] = offered_options(request_)
    assert found.options == ("good", "bad")
    assert found.asked.replace('"A', "A").replace('C"', "C") == asked.replace('"A', "A").replace(
        'C"', "C"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Are you a person or a machine?",  # nothing that one of them is for
        "Would you rather have tea, coffee or milk?",
        "What is the capital of France?",
        "Eva has 4 pears and buys 9 more. How many has she now?",
        "",
    ],
)
def test_no_options_for_a_text(text: str) -> None:
    assert offered_options(text) == ()


@pytest.mark.parametrize(
    "part", ["a-b ", "a, ", "a/b.c'd ", "a or ", "(", "- a\n", '"a, b" ', "of a, ", "a b, "]
)
def test_long_texts_are_read_in_time(part: str) -> None:
    begun = time.process_time()
    offered_options(part * 5_000)
    assert time.process_time() - begun < 2
