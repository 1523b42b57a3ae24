from __future__ import annotations

import math

import pytest

from t2agent.train.confidence import Interval


def test_an_interval_of_three_seeds():
    interval = Interval.of([0.8, 0.9, 1.0])

    assert interval.mean == pytest.approx(0.9)
    # t(0.975, 2 degrees of freedom) = 4.30265; the standard deviation is 0.1.
    assert interval.half == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert str(interval) == "0.900 ± 0.248"


def test_an_interval_is_that_of_scipy():
    from scipy import stats

    values = [0.31, 0.42, 0.37, 0.5]
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / 4, scale=stats.sem(values)
    )
    interval = Interval.of(iter(values))

    assert interval.mean - interval.half == pytest.approx(low)
    assert interval.mean + interval.half == pytest.approx(high)


def test_one_value_has_no_interval():
    assert Interval.of([0.5]) == Interval(0.5, None)
    assert str(Interval(0.5)) == "0.500"
    assert Interval.of([0.5, 0.5]).half == 0.0
