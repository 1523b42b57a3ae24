"""The benchmark of choosing and filling in tools."""

from __future__ import annotations

import pytest

from t2agent.bench import BENCHMARKS, figures, run
from t2agent.bench.tools import everyday_tools
from t2agent.errors import ConfigError


def test_values_of_everyday_calls_stand_in_their_requests() -> None:
    tools = everyday_tools()
    assert sum(len(tool.requests) for tool in tools) == 50
    assert len({tool.name for tool in tools}) == len(tools)
    for tool in tools:
        for text, arguments in tool.requests:
            assert set(arguments) == set(tool.parameters)
            for value in arguments.values():
                for one in value if isinstance(value, list) else [value]:
                    assert str(one).removesuffix(".0").lower() in text.lower()


def test_a_small_run_has_the_figures_that_are_wanted() -> None:
    found = run("tools", requests=2, progress=False)
    assert found["requests"] == {"known": 2, "unseen": 2, "everyday": 2}
    measured = figures(found)
    assert set(BENCHMARKS["tools"].wanted) <= measured.keys()
    assert all(0.0 <= value <= 1.0 for value in measured.values())
    assert measured["known.experts.right tool"] >= measured["known.experts.right call"]
    again = run("tools", requests=2, progress=False)
    assert again == found


def test_unusable_sizes() -> None:
    with pytest.raises(ConfigError, match="requests is 0"):
        run("tools", requests=0)
