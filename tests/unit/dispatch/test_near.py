"""Requests that have an expert's words and want something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.near import fit_near
from t2agent.experts.card import ExpertCard
from t2agent.experts.registry import Registry
from t2agent.nano.experts import DESCRIPTIONS
from t2agent.nano.tasks import TASKS
from t2agent.train.near_misses import near_misses

DATA = Path(__file__).parent / "data"
NEAR, OWN = (
    [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]
    for name in ("near_misses.jsonl", "own_requests.jsonl")
)
IMAGES = ("read", "chart", "count")


@pytest.fixture(scope="module")
def shipped() -> EmbeddingDispatcher:
    return EmbeddingDispatcher(Registry("t2-nano"))


@pytest.mark.parametrize("expert", DESCRIPTIONS)
def test_near_requests_are_left_to_the_base_model(shipped, expert):
    asked = [row["prompt"] for row in NEAR if row["expert"] == expert]
    assert len(asked) >= 30
    # Nothing of it was learnt.
    assert not set(asked) & set(Registry("t2-nano").card(expert).negatives)
    found = shipped.dispatch([Request(text, int(expert in IMAGES)) for text in asked])
    assert np.mean([not one.mixture for one in found]) >= 0.8
    # The gate's value and threshold say the same as the decision, for every request.
    assert all(one.in_scope == (one.gate >= one.threshold) for one in found)


@pytest.mark.parametrize("expert", DESCRIPTIONS)
def test_own_requests_are_kept(shipped, expert):
    asked = TASKS[expert].sample(100, seed=3, split="test")
    found = shipped.dispatch([Request(one.prompt, int(one.image is not None)) for one in asked])
    assert np.mean([one.mixture.experts() == {expert} for one in found]) >= 0.95


@pytest.mark.parametrize("expert", ["json", "read"])
def test_own_requests_in_other_words_are_kept(shipped, expert):
    asked = [row["prompt"] for row in OWN if row["expert"] == expert]
    found = shipped.dispatch([Request(text, int(expert in IMAGES)) for text in asked])
    assert np.mean([one.mixture.experts() == {expert} for one in found]) >= 0.95


REVIEWS = [
    f"Is this review positive or negative? {opening} {rest}"
    for opening in ("I loved it.", "What a waste of time.", "The acting was superb.", "Dull plot.",
                    "Best film of the year.", "I fell asleep.", "A touching story.", "Awful music.")
    for rest in ("Go and see it.", "Never again.", "My wife agreed.", "The end surprised me.")
]  # fmt: skip
NOT_REVIEWS = (
    "Translate 'good movie' to French",
    "Recommend me a good movie for tonight",
    "Who directed the film Casablanca?",
    "Write a negative review of my neighbour's dog",
    "How do I become a film critic?",
    "What is the best film of the year?",
    "Summarise the plot of Hamlet",
    "Why do people write reviews?",
)


def test_an_expert_leaves_its_neighbours_requests_alone(cards):
    own = tuple(REVIEWS[::2])
    alone = cards(ExpertCard("reviews", examples=own))
    told = cards(ExpertCard("reviews", examples=own, negatives=tuple(near_misses(own))))
    requests = [Request(text) for text in (*NOT_REVIEWS, *REVIEWS[1::2])]
    before, after = (
        [bool(one.mixture) for one in EmbeddingDispatcher(which).dispatch(requests)]
        for which in (alone, told)
    )
    n = len(NOT_REVIEWS)
    assert sum(after[:n]) <= min(1, sum(before[:n]))
    assert np.mean(after[n:]) >= 0.9


def test_the_score_of_a_single_expert_is_its_certainty(cards):
    registry = cards(ExpertCard("reviews", examples=tuple(REVIEWS[::2])))
    own, other = EmbeddingDispatcher(registry).dispatch([Request(REVIEWS[1]), Request("Hi there")])
    assert own.scores["reviews"] > 0.5 > other.scores["reviews"]
    assert own.gate >= own.threshold > other.gate


def test_labels_without_such_requests_are_told_nothing_about():
    vectors = np.eye(4, dtype=np.float32)
    near = fit_near({0: vectors[:1]}, {0: vectors[1:2]}, vectors[2:3], 2)
    margins = near.margin(vectors[:2], np.array([0, 0]))
    assert margins[0] > 0 > margins[1]
    assert np.isinf(near.margin(vectors, np.array([1, 1, 1, 1]))).all()


def test_near_misses_have_the_words_of_the_examples():
    found = near_misses(REVIEWS, 40)
    assert len(found) == len(set(found)) == 40
    assert found == near_misses(REVIEWS, 40)
    assert sum("review" in one or "positive" in one or "negative" in one for one in found) > 3
    assert not set(found) & set(REVIEWS)
    assert near_misses(["?"]) == []
    assert any("image" in one or "picture" in one for one in near_misses(REVIEWS, 40, images=True))
