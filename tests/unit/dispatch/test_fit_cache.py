"""Fits, kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t2agent.dispatch import EmbeddingDispatcher, classifier
from t2agent.dispatch import fitting as fit_cache
from t2agent.dispatch import fitting as fitted


@pytest.fixture
def fits(words, t2agent_home: Path) -> Path:
    return t2agent_home / "cache" / "fits"


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """One for each fit that is not from disk."""
    seen: list[int] = []
    whole = fitted.fit_classifier

    def fit(*args):
        seen.append(1)
        return whole(*args)

    monkeypatch.setattr(fitted, "fit_classifier", fit)
    return seen


def anew(topics, **options) -> EmbeddingDispatcher:
    """As another process would have it."""
    fitted.forget()
    return EmbeddingDispatcher(**options).fit(topics)


def test_a_later_process_decides_the_same_without_fitting(fits, counted, topics):
    first = anew(topics)
    later = anew(topics)
    texts = ["fish1 fish2 with", "moon3", "iron tea", "nothing of that"]
    assert counted == [1]
    assert np.array_equal(first.scores(texts), later.scores(texts))
    assert np.array_equal(first.scope(texts), later.scope(texts))
    assert first.scope_threshold == later.scope_threshold
    assert first.temperature == later.temperature


def test_whatever_changes_a_fit_makes_another(fits, counted, topics):
    anew(topics)
    anew({**topics, "fish": topics["fish"][:-1]})
    anew(topics, temperature=0.5)
    anew(topics, scope_threshold=0.1)
    assert len(counted) == 4
    assert anew(topics, scope_threshold=0.1).scope_threshold == 0.1
    assert len(counted) == 4


@pytest.mark.parametrize("keep", [0, 10, 40, -1])
def test_a_damaged_fit_is_made_anew(fits, counted, topics, keep):
    odds = anew(topics).scores(["fish1"])
    [path] = fits.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert np.array_equal(anew(topics).scores(["fish1"]), odds)
    anew(topics)
    assert len(counted) == 2


def test_few_are_kept(fits, topics):
    for k in range(fit_cache._KEPT + 3):
        anew(topics, temperature=1.0 + k)
    assert len(list(fits.iterdir())) == fit_cache._KEPT


def test_where_nothing_can_be_written_it_is_fitted(fits, counted, topics):
    fits.parent.mkdir(exist_ok=True)
    fits.write_text("a file, where the folder should be")
    anew(topics)
    anew(topics)
    assert len(counted) == 2


def test_with_many_labels_the_solver_stops_early(words, topics, monkeypatch):
    texts = [text for own in topics.values() for text in own]
    late = anew(topics).predict(texts)
    monkeypatch.setattr(classifier, "_LARGE", 10)
    assert late == anew({**topics, "iron": topics["iron"]}).predict(texts)
