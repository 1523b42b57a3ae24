import pytest

from t2agent import Expert
from t2agent.bench.paper.forgetting import log_likelihood, own_replies
from t2agent.models.prompt import Prompt
from tests.experts import random_expert
from tests.unit.bench.paper_suite import shared


def test_an_adapter_that_changes_nothing_forgets_nothing():
    model = shared()
    replies = own_replies(model, ["Hello!", "Who are you?"])
    base = log_likelihood(model, replies)

    assert [prompt for prompt, _ in replies] == [Prompt.user("Hello!"), Prompt.user("Who are you?")]
    assert base == pytest.approx(log_likelihood(model, replies, Expert.identity(model, "same")))
    assert log_likelihood(model, replies, random_expert(model, "strong")) < base < 0
