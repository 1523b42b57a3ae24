from __future__ import annotations

import pytest

from t2agent.bench import BENCHMARKS, run
from t2agent.errors import ConfigError


def test_both_are_timed():
    result = run("dispatch_cost", requests=3)

    assert set(BENCHMARKS["dispatch_cost"].wanted) <= set(result)
    assert result["requests"] == 3
    assert result["ratio"] == pytest.approx(result["dispatch_ms"] / result["encode_ms"])
    assert min(result.values()) > 0


def test_there_must_be_a_request():
    with pytest.raises(ConfigError, match="at least 1"):
        run("dispatch_cost", requests=0)
