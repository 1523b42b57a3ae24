from __future__ import annotations

import pytest

from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("tools", {"tools": 1.0}),
        ("tools=0.7+extract=0.3", {"tools": 0.7, "extract": 0.3}),
        ("a-b.c=-0.5", {"a-b.c": -0.5}),
        ("v2e=1e22+b=1e-07", {"v2e": 1e22, "b": 1e-07}),
    ],
)
def test_a_mixture_on_one_line(text: str, weights: dict[str, float]) -> None:
    mixture = Mixture.from_text(text)
    assert mixture == Mixture(weights)
    assert mixture.to_text() == text


def test_experts_without_a_weight() -> None:
    assert Mixture.from_text("a+b=1") == Mixture({"a": 1.0, "b": 1.0})


@pytest.mark.parametrize("text", ["", "+", "a+", "a=", "a=x", "=1", "a=nan", "a+a", "a=1=2"])
def test_what_is_no_mixture(text: str) -> None:
    with pytest.raises(ConfigError, match="is no mixture; give each expert once"):
        Mixture.from_text(text)


@pytest.mark.parametrize("mixture", [Mixture(), Mixture({"a": 1.0}, {"m.0": {"a": 0.0}})])
def test_what_has_no_name(mixture: Mixture) -> None:
    with pytest.raises(ConfigError, match="has no name"):
        mixture.to_text()
