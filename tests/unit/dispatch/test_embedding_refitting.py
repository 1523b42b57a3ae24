"""Adding and removing labels gives what fitting anew gives, to the last bit."""

from __future__ import annotations

import random

import pytest

from t2agent.dispatch import EmbeddingDispatcher
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard

UNSEEN = ["fish1 fish with word3", "iron0 iron4 iron", "moon2 moon", "how are you today", ""]


def state(dispatcher: EmbeddingDispatcher) -> dict[str, object]:
    """Everything that decides, to the last bit."""
    fitted = dispatcher._current("text")
    assert fitted is not None
    return {
        "labels": dispatcher.labels,
        "weight": fitted.classifier.weight.tobytes(),
        "bias": fitted.classifier.bias.tobytes(),
        "temperature": dispatcher.temperature,
        "threshold": dispatcher.scope_threshold,
        "centres": fitted.gate.centres.tobytes(),
        "examples": [own.tobytes() for own in fitted.gate.examples],
        "scores": dispatcher.scores(UNSEEN).tobytes(),
        "scope": dispatcher.scope(UNSEEN).tobytes(),
    }


@pytest.fixture
def dispatcher(words, topics) -> EmbeddingDispatcher:
    return EmbeddingDispatcher().fit(topics)


def test_adding_equals_fitting_anew(dispatcher, topics):
    first = {label: texts for label, texts in topics.items() if label != "iron"}
    in_steps = EmbeddingDispatcher().fit(first)
    assert state(in_steps) != state(dispatcher)

    in_steps.add("iron", topics["iron"][:4]).add("iron", topics["iron"][4:])

    assert state(in_steps) == state(dispatcher)


def test_removing_equals_fitting_anew(dispatcher, topics):
    more = {**topics, "tree": ["tree bark", "tree leaf"]}

    in_steps = EmbeddingDispatcher().fit(more).add("rock", ["rock"]).remove("tree").remove("rock")

    assert state(in_steps) == state(dispatcher)


def test_adding_what_was_removed_starts_from_nothing(dispatcher, topics):
    in_steps = EmbeddingDispatcher().fit({**topics, "moon": ["something else"]})

    in_steps.remove("moon").add("moon", topics["moon"])

    assert state(in_steps) == state(dispatcher)


def test_the_order_of_labels_and_examples_does_not_matter(dispatcher, topics):
    shuffled = [(label, random.Random(5).sample(own, len(own))) for label, own in topics.items()]

    assert state(EmbeddingDispatcher().fit(dict(shuffled[::-1]))) == state(dispatcher)


def test_cards_and_fit_give_the_same(dispatcher, topics, cards):
    registry = cards(*(ExpertCard(name, examples=tuple(own)) for name, own in topics.items()))

    assert state(EmbeddingDispatcher(registry)) == state(dispatcher)
    assert state(EmbeddingDispatcher(registry).fit(topics)) == state(dispatcher)


def test_adding_to_cards_equals_other_cards(topics, cards, words):
    def registry(iron: list[str]) -> object:
        own = {**topics, "iron": iron}
        return cards(*(ExpertCard(name, examples=tuple(e)) for name, e in own.items()))

    added = EmbeddingDispatcher(registry(topics["iron"][:5])).add("iron", topics["iron"][5:])

    assert state(added) == state(EmbeddingDispatcher(registry(topics["iron"])))


def test_a_failed_call_changes_nothing(dispatcher):
    before = state(dispatcher)
    for act in (
        lambda: dispatcher.fit({"a": []}),
        lambda: dispatcher.add("a", "text"),
        lambda: dispatcher.remove("unknown"),
    ):
        with pytest.raises(ConfigError):
            act()

    assert state(dispatcher) == before
