"""Reading an answer out of a reply, and comparing it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from t2agent.tasks.paper.arc import letter
from t2agent.tasks.paper.math import boxed, equivalent, final
from t2agent.tasks.paper.vqa import normalise
from t2agent.tasks.rewards.texts import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7.", "7"),
        ("$1,234,567.50", "1234567.50"),
        ("-5", "-5"),
        ("it is -$5", "-5"),
        ("10-3", "3"),
        (".5", "0.5"),
        ("50%", "50"),
        ("3/4", "4"),
        ("7 apples.\n", "7"),
        ("x2", "2"),
        ("3rd", "3"),
        ("none", None),
        ("", None),
        ("٣", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1} and \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\fbox{3}", "3"),
        ("$\\boxed 5$", "5"),
        ("\\boxed {6}", "6"),
        ("\\boxed{7", None),
        ("\\boxed", None),
        ("8", None),
    ],
)
def test_boxed(text: str, answer: str | None) -> None:
    assert boxed(text) == answer


def test_final() -> None:
    assert final("The answer is: 4\\sqrt{2}.\nDone.") == "4\\sqrt{2}"
    assert final("The answer is 3.5. The answer is \\boxed{4}") == "4"
    assert final("the answer is 3.5.") == "3.5"
    assert final("no idea") is None


SAME = [
    ("\\frac12", "\\dfrac{1}{2}"),
    ("0.5", "\\frac{1}{2}"),
    (".5", "1/2"),
    ("-\\frac{1}{2}", "\\frac{-1}{2}"),
    ("\\sqrt2", "\\sqrt{2}"),
    ("3\\sqrt 2", "3\\sqrt{2}"),
    ("x = 5", "5"),
    ("10\\text{ cm}", "10"),
    ("10 \\text{ cm}^2", "10"),
    ("\\$10", "10"),
    ("50\\%", "50"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "90"),
    ("\\left(1, 2\\right)", "(1,2)"),
    ("(0.5, 2)", "(\\frac{1}{2},2)"),
    ("1,000", "1000"),
    ("10,\\!000", "10000"),
    ("\\text{Tuesday}", "Tuesday"),
    ("1, 2, 3", "1,2,3"),
    ("12.0", "12"),
    ("{,}", ","),
    ("5.", "5"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
]
DIFFERENT = [
    ("1", "2"),
    ("0.5", "50"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "1,2"),
    ("(1,2)", "(2,1)"),
    ("1000000", "1000001"),
    ("\\frac{1}{0}", "1"),
    ("x^2", "2x"),
    ("", ""),
    ("\\sqrt{2}", "2"),
    ("A", "B"),
    ("1" * 2000, "2"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equivalent(one: str, other: str) -> None:
    assert equivalent(one, other)
    assert equivalent(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_not_equivalent(one: str, other: str) -> None:
    assert not equivalent(one, other)
    assert not equivalent(other, one)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the answer is (B)", "B"),
        ("The answer is: **D**", "D"),
        ("Answer: C", "C"),
        ("A or rather B", "B"),
        ("(E).", "E"),
        ("I think it's Mars", None),
        ("Because Venus is hot.", None),
    ],
)
def test_letter(text: str, found: str | None) -> None:
    assert letter(text) == found


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Dogs.", "dogs"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("1,000", "1000"),
        ("1.5", "1.5"),
        ("dont know", "don't know"),
        ("red & white", "red white"),
        ("  A  cat\n", "cat"),
    ],
)
def test_normalise(text: str, form: str) -> None:
    assert normalise(text) == form
