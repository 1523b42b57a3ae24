from __future__ import annotations

import pytest

from t2agent.bench.paper import run
from t2agent.bench.paper.plan import FULL, QUICK, Plan
from t2agent.errors import ConfigError


def test_lists_as_they_come_from_the_command_line():
    plan = Plan(seeds=[1, 2], scaling=[3], scales=[1, 0.5], methods=["svf"])

    assert (plan.seeds, plan.scaling, plan.scales) == ((1, 2), (3,), (1, 0.5))
    assert plan.methods == ("svf",)
    assert len(FULL.seeds) == 3
    assert QUICK.requests < FULL.requests


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": [-1]}, "seeds"),
        ({"requests": 0}, "requests is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"shots": True}, "shots"),
        ({"rates_on": -1}, "rates_on"),
        ({"compared_on": 0}, "compared_on"),
        ({"scaling": [0]}, "scaling"),
        ({"scales": [0.0]}, "scales"),
        ({"scales": [float("inf")]}, "scales"),
        ({"methods": "svf"}, "methods"),
        ({"parts": ["curves"]}, "parts.*few-shot"),
        ({"parts": [[]]}, "parts"),
        ({"rates": 0.02}, "rates is 0.02"),
        ({"rates": {"svf": 0}}, "rates"),
        ({"search": 3}, "search"),
        ({"search": {"colour": 1}}, "colour"),
        ({"hyper": {"colour": 1}}, "colour"),
    ],
)
def test_what_cannot_be_planned(sizes, says):
    with pytest.raises(ConfigError, match=says):
        Plan(**sizes)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"colour": 1}, "unknown option.*colour.*known:.*requests"),
        ({"methods": ["svf", "dora"]}, "unknown method.*dora.*known:.*lora-r1"),
        ({"rates": {"dora": 0.1}}, "unknown method.*dora"),
        ({"taught_by": "lora-r1"}, "taught_by is 'lora-r1'.*svf-sft"),
        ({"task": ["gsm8k"]}, "gsm8k for t2-nano"),
    ],
)
def test_settings_that_are_refused_before_anything_runs(settings, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        run(work=tmp_path, progress=False, **settings)

    assert not list(tmp_path.iterdir())
