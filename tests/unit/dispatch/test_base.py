from __future__ import annotations

import json
import pickle

import pytest

from t2agent.dispatch import Decision, Dispatcher, EmbeddingDispatcher, Request
from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture


@pytest.mark.parametrize("text", [None, 3, b"bytes"])
def test_a_request_needs_text(text):
    with pytest.raises(ConfigError, match="give a string"):
        Request(text)


@pytest.mark.parametrize("images", [-1, 1.5, True, "2"])
def test_a_request_counts_its_images(images):
    with pytest.raises(ConfigError, match="0 or more"):
        Request("hello", images)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_are_finite(score):
    with pytest.raises(ConfigError, match="finite"):
        Decision(Mixture(), "embedding", {"math": score})


def test_a_decision_is_a_value():
    decision = Decision(Mixture({"math": 0.5}), "embedding", {"math": 1}, True, 0.25)

    assert pickle.loads(pickle.dumps(decision)) == decision
    assert hash(pickle.loads(pickle.dumps(decision))) == hash(decision)
    with pytest.raises(TypeError):
        decision.scores["math"] = 0.0
    plain = json.loads(json.dumps(decision.to_dict()))
    assert plain["scores"] == {"math": 1.0}
    assert (plain["strategy"], plain["in_scope"], plain["seconds"]) == ("embedding", True, 0.25)


def test_the_protocol_is_checked_at_run_time():
    assert isinstance(EmbeddingDispatcher(), Dispatcher)
    assert not isinstance(object(), Dispatcher)
