"""What of a request is left to be called, by how well tools fit its parts."""

from __future__ import annotations

import pytest

from t2agent.replies.tool_fit import Part, ToolFit

FILM, VISITS, PAPERS, OTHER = range(4)
FIT = ToolFit(
    "Tell me about the film. How many visits has the library? And count the papers of Smith.",
    (0.6, 0.2, 0.3, 0.5),
    (
        Part("Tell me about the film.", True, (0.78, 0.1, 0.1, 0.3)),
        Part("How many visits has the library?", True, (0.1, 0.8, 0.2, 0.1)),
        Part("And count the papers of Smith.", True, (0.1, 0.2, 0.75, 0.1)),
    ),
)


@pytest.mark.parametrize(
    ("called", "best"),
    [((), FILM), ((FILM,), VISITS), ((FILM, VISITS), PAPERS), ((VISITS,), FILM), ((PAPERS,), FILM)],
)
def test_the_next_call_is_for_the_first_part_that_is_left(
    called: tuple[int, ...], best: int
) -> None:
    fits = FIT.next(called)
    assert fits.index(max(fits)) == best
    assert FIT.goes_on(called, "") is True


def test_after_calls_for_all_parts_nothing_is_left() -> None:
    called = (FILM, VISITS, PAPERS)
    assert FIT.next(called) == [0.0] * 4
    assert not FIT.goes_on(called, "Smith")


def test_the_first_call_counts_the_whole_request_too() -> None:
    one = ToolFit(
        "I'd like to pay. Ask my card for 20.",
        (0.6, 0.3),
        (Part("I'd like to pay.", True, (0.4, 0.5)), Part("Ask my card for 20.", True, (0.2, 0.3))),
    )
    assert one.next(()) == pytest.approx([0.5, 0.4])


def test_a_part_that_fits_a_called_tool_nearly_as_well_asks_for_no_other() -> None:
    near = ToolFit(
        "a. b.", (0.5, 0.5), (Part("a.", True, (0.6, 0.3)), Part("b.", True, (0.5, 0.6)))
    )
    assert not near.goes_on((0,), "")
    clear = ToolFit("a. b.", (0.5, 0.5), (near.parts[0], Part("b.", True, (0.3, 0.6))))
    assert clear.goes_on((0,), "")


def test_a_value_beside_one_that_was_passed_wants_the_same_tool_again() -> None:
    text = "What time is it in Paris and Rome?"
    fit = ToolFit(text, (0.8,), (Part(text, True, (0.8,)),))
    assert fit.goes_on((0,), '{"city": "Paris"}')
    assert not fit.goes_on((0,), '{"city": "Paris"}, {"city": "Rome"}')
