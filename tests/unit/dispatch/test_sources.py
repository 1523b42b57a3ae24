from __future__ import annotations

import pytest

from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.dispatch.labels import Sources, in_words
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard


@pytest.fixture
def registry(cards):
    return cards(
        ExpertCard("math", "Numbers.", ("add", "subtract")),
        ExpertCard("read", "Pictures.", ("what is shown",), modality="image"),
        ExpertCard("mute"),
    )


def test_cards_give_examples_and_descriptions_by_modality(registry):
    sources = Sources(registry)

    assert {k: set(v) for k, v in sources.of("text").items()} == {
        "math": {"add", "subtract", "Numbers."}
    }
    assert {k: set(v) for k, v in sources.of("image").items()} == {
        "read": {"what is shown", "Pictures."},
        "math": {"add", "subtract", "Numbers."},
    }
    assert sources.seeing() == {"read"}


def test_fit_puts_its_examples_in_place_of_the_cards(registry):
    sources = Sources(registry)
    sources.fit({"math": ["divide"], "read": ["a number"]})

    assert sources.of("text") == {"math": ("divide",)}
    assert sources.of("image") == {"math": ("divide",), "read": ("a number",)}


def test_add_joins_the_cards_and_remove_forgets_them(registry):
    sources = Sources(registry)
    sources.add("math", ["divide"])
    assert set(sources.of("text")["math"]) == {"add", "subtract", "Numbers.", "divide"}
    sources.remove("math")
    assert sources.of("text") == {}
    sources.add("math", ["multiply"])
    assert sources.of("text") == {"math": ("multiply",)}


def test_the_order_is_canonical_and_duplicates_count_once():
    one, two = Sources(None), Sources(None)
    one.fit({"b": ["x", "y", "z", " "], "a": ["q"]})
    two.fit({"a": ["q", "q"], "b": ["z", "x"]})
    two.add("b", ["y", "x"])

    assert one.of("text") == two.of("text")
    assert list(one.of("text")) == ["a", "b"]


def test_without_a_registry_labels_are_for_text():
    sources = Sources(None)
    sources.fit({"a": ["x"]})

    assert sources.of("image") == {}


def test_the_digest_follows_what_was_given():
    sources = Sources(None)
    seen = {sources.digest()}
    for change in (
        lambda: sources.fit({"a": ["x"]}),
        lambda: sources.add("a", ["half a pair: \ud800"]),
        lambda: sources.remove("a"),
    ):
        change()
        assert sources.digest() not in seen
        seen.add(sources.digest())


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ([("a", ["x"])], "is a list; give"),
        ({"": ["x"]}, "not a label"),
        ({3: ["x"]}, "not a label"),
        ({"a": "x"}, "give a sequence of strings"),
        ({"a": None}, "give a sequence of strings"),
        ({"a": iter(["x"])}, "give a sequence of strings"),
        ({"a": ["x", 3]}, "give a sequence of strings"),
        ({"a": []}, "has no examples"),
        ({"a": ["", " \n"]}, "has no examples"),
    ],
)
def test_unusable_examples(examples, says):
    sources = Sources(None)
    sources.fit({"before": ["x"]})

    with pytest.raises(ConfigError, match=says):
        sources.fit(examples)
    assert sources.of("text") == {"before": ("x",)}


def test_a_label_must_be_an_expert_of_the_registry(registry):
    for act in (Sources(registry).fit, lambda e: Sources(registry).add(*next(iter(e.items())))):
        with pytest.raises(ConfigError, match=r"'maths' is not an expert.*math, mute, read"):
            act({"maths": ["x"]})


def test_the_classifier_expert_is_no_label(cards):
    sources = Sources(cards(ExpertCard("math", "Numbers."), ExpertCard(CLASSIFIER, "Kinds.")))
    assert list(sources.of("text")) == ["math"]
    with pytest.raises(ConfigError, match="answers category questions"):
        sources.add(CLASSIFIER, ["x"])
    free = Sources(None)
    free.fit({CLASSIFIER: ["x"]})
    assert list(free.of("text")) == [CLASSIFIER]


def test_only_what_is_there_can_be_removed(registry):
    with pytest.raises(ConfigError, match="no label 'x' to remove; there are: math, read"):
        Sources(registry).remove("x")
    with pytest.raises(ConfigError, match="there are: none"):
        Sources(None).remove("x")


@pytest.mark.parametrize(
    ("label", "words"),
    [("transfer_money", "transfer money"), ("pto-balance", "pto balance"), ("math", "math"),
     ("___", "___"), ("Zahlen und Maße", "Zahlen und Maße")],
)  # fmt: skip
def test_a_label_in_words(label, words):
    assert in_words(label) == words
