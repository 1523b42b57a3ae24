from __future__ import annotations

import pytest

from t2agent.bench import BENCHMARKS, run
from t2agent.bench.many_experts import _spread
from t2agent.errors import ConfigError


def test_a_few_of_the_experts_are_measured_as_all_would_be() -> None:
    result = run("many_experts", experts=4, few=2, requests=2, budget=100_000)

    assert set(BENCHMARKS["many_experts"].wanted) <= set(result)
    assert result["experts"] == 4
    assert result["dispatch_ratio"] == pytest.approx(
        result["dispatch_ms"] / result["dispatch_few_ms"]
    )
    assert 0 < result["held"] <= 1
    assert result["right"] == 1


def test_there_are_a_thousand_errands_and_the_first_have_little_in_common() -> None:
    errands = _spread()

    assert len(set(errands)) == 1_000
    assert all(len(set(words)) == 10 for words in zip(*errands[:10], strict=True))


@pytest.mark.parametrize(
    "settings", [{"experts": 1_001}, {"few": 1}, {"experts": 5, "few": 6}, {"requests": 0}]
)
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at most 1000 experts"):
        run("many_experts", **settings)
