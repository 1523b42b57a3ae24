from __future__ import annotations

import threading

import numpy as np
import pytest

from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.experts.mixture import Mixture

UNSEEN = ["fish1 fish with word3", "iron0 iron4 iron", "moon2 moon", "how are you today", ""]


@pytest.fixture
def dispatcher(words, topics) -> EmbeddingDispatcher:
    return EmbeddingDispatcher().fit(topics)


# -- deciding ----------------------------------------------------------------------------------


def test_the_nearest_label_is_chosen(dispatcher):
    assert dispatcher.predict(UNSEEN[:3]) == ["fish", "iron", "moon"]
    decisions = dispatcher.dispatch([Request(text) for text in UNSEEN[:3]])

    assert [d.mixture for d in decisions] == [
        Mixture({"fish": 1}), Mixture({"iron": 1}), Mixture({"moon": 1}),
    ]  # fmt: skip
    assert all(d.in_scope and d.strategy == "embedding" and d.seconds > 0 for d in decisions)
    odds = dispatcher.scores(UNSEEN[:3])
    for row, decision in zip(odds, decisions, strict=True):
        assert decision.scores == pytest.approx(dict(zip(dispatcher.labels, row, strict=True)))
        assert sum(row) == pytest.approx(1)


@pytest.mark.parametrize("text", ["how are you today", "", " \n "])
def test_out_of_scope_the_base_model_answers(dispatcher, text):
    (decision,) = dispatcher.dispatch([Request(text)])

    assert not decision.in_scope
    assert decision.mixture == Mixture()
    assert set(decision.scores) == {"fish", "iron", "moon"}


def test_empty_text_is_out_of_scope_whatever_the_threshold(words, topics):
    everything = EmbeddingDispatcher(scope_threshold=-9.0).fit(topics)
    nothing = EmbeddingDispatcher(scope_threshold=9.0).fit(topics)

    texts = [Request("unknown words"), Request(""), Request("fish1 fish")]
    assert [d.in_scope for d in everything.dispatch(texts)] == [True, False, True]
    assert [d.in_scope for d in nothing.dispatch(texts)] == [False] * 3


def test_top_k_mixes_by_probability(words, topics):
    mixed = EmbeddingDispatcher(top_k=2, scope_threshold=-9.0).fit(topics)

    (decision,) = mixed.dispatch([Request("fish1 fish moon2")])

    best = sorted(decision.scores, key=decision.scores.__getitem__, reverse=True)[:2]
    total = sum(decision.scores[name] for name in best)
    expected = {name: decision.scores[name] / total for name in best}
    assert dict(decision.mixture.weights) == pytest.approx(expected)
    assert sum(decision.mixture.weights.values()) == pytest.approx(1)
    many = EmbeddingDispatcher(top_k=9, scope_threshold=-9.0).fit(topics)
    assert len(many.dispatch([Request("fish1")])[0].mixture.weights) == 3


def test_the_temperature_changes_confidence_not_choice(words, topics):
    cold, hot = (EmbeddingDispatcher(temperature=t).fit(topics) for t in (0.5, 4.0))

    assert cold.temperature == 0.5
    assert cold.predict(UNSEEN) == hot.predict(UNSEEN)
    assert (cold.scores(UNSEEN).max(axis=1) > hot.scores(UNSEEN).max(axis=1)).all()


@pytest.mark.parametrize("labels", [["fish"], ["fish", "iron"]])
def test_few_labels(words, topics, labels):
    few = EmbeddingDispatcher().fit({label: topics[label] for label in labels})

    assert few.predict(UNSEEN[:2]) == (["fish", "fish"] if len(labels) == 1 else labels)
    np.testing.assert_allclose(few.scores(UNSEEN).sum(axis=1), 1)
    inside, outside = few.dispatch([Request("fish1 fish"), Request("how are you today")])
    assert inside.in_scope
    assert not outside.in_scope


def test_half_a_surrogate_pair_is_a_text_like_others(dispatcher):
    dispatcher.add("fish", ["fish \ud83d"])

    assert dispatcher.predict(["fish1 \udc00"]) == ["fish"]
    assert dispatcher.version


def test_no_requests(dispatcher):
    assert dispatcher.dispatch([]) == []
    assert dispatcher.predict([]) == []
    assert dispatcher.scores([]).shape == (0, 3)


# -- modality ----------------------------------------------------------------------------------


def test_requests_go_to_experts_of_their_modality(words, topics, cards):
    registry = cards(
        ExpertCard("fish", examples=tuple(topics["fish"])),
        ExpertCard("photo", examples=tuple(topics["iron"]), modality="image"),
        ExpertCard("chart", examples=tuple(topics["moon"]), modality="image"),
    )
    dispatcher = EmbeddingDispatcher(registry)

    text, image, other = dispatcher.dispatch(
        [Request("fish1 fish"), Request("iron1 iron", images=1), Request("fish1 fish", images=2)]
    )

    assert (text.mixture, set(text.scores)) == (Mixture({"fish": 1}), {"fish"})
    assert (image.mixture, set(image.scores)) == (Mixture({"photo": 1}), {"photo", "chart", "fish"})
    assert other.mixture == Mixture({"fish": 1})
    assert dispatcher.labels == ("fish",)


def test_for_an_image_a_text_expert_has_to_be_clearly_closer(words, topics, cards):
    shared = tuple(topics["fish"])
    registry = cards(
        ExpertCard("text", examples=shared),
        ExpertCard("photo", examples=shared, modality="image"),
        ExpertCard("chart", examples=tuple(topics["moon"]), modality="image"),
    )
    (decision,) = EmbeddingDispatcher(registry).dispatch([Request("fish1 fish", images=1)])

    assert decision.scores["text"] == pytest.approx(decision.scores["photo"], abs=0.25)
    assert decision.mixture == Mixture({"photo": 1})


def test_without_an_expert_of_the_modality_the_base_model_answers(dispatcher):
    text, image = dispatcher.dispatch([Request("fish1 fish"), Request("fish1 fish", images=1)])

    assert text.in_scope
    assert (image.mixture, image.scores, image.in_scope) == (Mixture(), {}, False)
    (nothing,) = EmbeddingDispatcher().dispatch([Request("fish1 fish")])
    assert (nothing.mixture, nothing.in_scope) == (Mixture(), False)


# -- the registry ------------------------------------------------------------------------------


def test_a_change_of_the_registry_is_noticed(words, topics, cards):
    registry = cards(ExpertCard("fish", examples=tuple(topics["fish"])))
    dispatcher = EmbeddingDispatcher(registry)
    assert dispatcher.predict(["iron1 iron"]) == ["fish"]

    registry.put(ExpertCard("iron", examples=tuple(topics["iron"])))
    assert dispatcher.predict(["iron1 iron"]) == ["iron"]
    registry.put(ExpertCard("iron", examples=tuple(topics["moon"])))
    assert dispatcher.predict(["moon1 moon"]) == ["iron"]


def test_examples_are_encoded_once(words, topics, cards):
    registry = cards(*(ExpertCard(name, examples=tuple(own)) for name, own in topics.items()))
    EmbeddingDispatcher(registry).predict(UNSEEN)
    words.encoded.clear()

    dispatcher = EmbeddingDispatcher(registry)
    dispatcher.predict(UNSEEN)
    registry.put(ExpertCard("tree", examples=("tree bark",)))
    dispatcher.predict(UNSEEN[:1])

    assert words.encoded == [*UNSEEN, "tree bark", "tree", UNSEEN[0]]


def test_after_a_failure_the_next_request_tries_again(words, topics, monkeypatch):
    dispatcher = EmbeddingDispatcher()
    monkeypatch.setattr(words, "encode", None)
    with pytest.raises(TypeError):
        dispatcher.fit(topics)
    monkeypatch.undo()
    from t2agent.dispatch import encoder

    monkeypatch.setattr(encoder, "_load", lambda name: words)

    assert dispatcher.predict(UNSEEN[:1]) == ["fish"]


def test_the_version_tells_dispatchers_apart(words, topics):
    versions = [
        EmbeddingDispatcher().version,
        EmbeddingDispatcher(top_k=2).version,
        EmbeddingDispatcher(temperature=1.0).version,
        EmbeddingDispatcher(scope_threshold=0.0).version,
        EmbeddingDispatcher(encoder="other").version,
        EmbeddingDispatcher().fit(topics).version,
        EmbeddingDispatcher().fit(topics).remove("fish").version,
    ]

    assert len(set(versions)) == len(versions)
    assert EmbeddingDispatcher().fit(topics).version == versions[-2]


def test_threads_see_one_state_or_the_other(dispatcher, topics):
    less = {label: own for label, own in topics.items() if label != "moon"}
    expected = {
        len(other.labels): other.scores(UNSEEN).tobytes()
        for other in (dispatcher, EmbeddingDispatcher().fit(less))
    }
    seen: list[bool] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            odds = dispatcher.scores(UNSEEN)
            seen.append(odds.tobytes() == expected[odds.shape[1]])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            dispatcher.remove("moon")
            dispatcher.add("moon", topics["moon"])
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert seen
    assert all(seen)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        *({"top_k": value} for value in (0, -1, 1.0, True, "1", None)),
        *({"temperature": value} for value in (0, -1.0, float("nan"), float("inf"), "1", True)),
        *({"scope_threshold": value} for value in (float("nan"), float("inf"), "0", True)),
        *({"encoder": value} for value in ("", None)),
    ],
    ids=str,
)
def test_unusable_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        EmbeddingDispatcher(**options)


@pytest.mark.parametrize("method", ["predict", "scores", "scope"])
def test_there_must_be_labels_and_texts(words, topics, method):
    with pytest.raises(ConfigError, match="no labels for text: call fit"):
        getattr(EmbeddingDispatcher(), method)(["text"])
    fitted = EmbeddingDispatcher().fit(topics)
    with pytest.raises(ConfigError, match="is the string 'fish'"):
        getattr(fitted, method)("fish")
    with pytest.raises(ConfigError, match="a text is 3"):
        getattr(fitted, method)(["fish", 3])


@pytest.mark.parametrize("name", ["scope_threshold", "temperature"])
def test_nothing_is_known_without_labels(words, name):
    assert EmbeddingDispatcher().labels == ()
    with pytest.raises(ConfigError, match="no labels"):
        getattr(EmbeddingDispatcher(), name)


def test_an_unknown_encoder_is_an_error_on_first_use(topics):
    dispatcher = EmbeddingDispatcher(encoder="nobody/no-such-model")

    with pytest.raises(ConfigError, match="nobody/no-such-model"):
        dispatcher.fit(topics)
    assert "no-such-model" in repr(dispatcher)


# -- with the real encoder ---------------------------------------------------------------------


def test_real_requests_find_their_label():
    dispatcher = EmbeddingDispatcher().fit(
        {
            "weather": ["will it rain tomorrow", "how warm is it in Rome", "is it windy outside"],
            "music": ["play some jazz", "skip this song", "who sings this track"],
        }
    )

    texts = ["do I need an umbrella today", "put on the new album of Adele"]
    assert dispatcher.predict(texts) == ["weather", "music"]
    assert dispatcher.scope(texts).min() > dispatcher.scope(["translate this letter"])[0]


def test_dispatchers_of_equal_examples_share_what_is_fitted(words, topics):
    first, second = EmbeddingDispatcher().fit(topics), EmbeddingDispatcher().fit(topics)
    assert first._current("text") is second._current("text")
    assert EmbeddingDispatcher(temperature=2.0).fit(topics)._current("text") is not None
    assert EmbeddingDispatcher(temperature=2.0).fit(topics).temperature == 2.0
    assert second.remove("fish")._current("text") is not first._current("text")
