from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.toolbox.numbers import exact, written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(7), "7"),
        (Fraction(-5, 4), "-1.25"),
        (Fraction(1, 8), "0.125"),
        (Fraction(2, 3), "0.666666666667"),
        (Fraction(1, 10**20), "0.00000000000000000001"),
        (Fraction(1, 10**21), "1e-21"),
        (Fraction(10**500, 3), "3.33333333333e+499"),
        (Fraction(-1, 3 * 10**500), "-3.33333333333e-501"),
        (2.0, "2"),
        (1 / 3, "0.333333333333"),
    ],
)
def test_written(value: Fraction | float, text: str) -> None:
    assert written(value) == text


def test_exact_is_what_is_written() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact(10**30) == 10**30
    assert exact(1e-300) == Fraction(1, 10**300)


@given(st.fractions())
def test_near_enough(value: Fraction) -> None:
    assert float(written(value)) == pytest.approx(float(value), rel=1e-11, abs=1e-20)
