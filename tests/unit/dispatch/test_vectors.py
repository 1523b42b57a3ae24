from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import numpy as np
import pytest

from t2agent.dispatch import EmbeddingDispatcher
from t2agent.dispatch import vectors as module
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.shipped_requests import examples_folder
from t2agent.dispatch.vectors import ExampleVectors, _read_shipped, _shipped_texts, write_shipped
from t2agent.experts.registry import Registry

TEXTS = ["one fish", "two fish", "half a pair: \ud83d", "one fish"]


@pytest.fixture
def cache(t2agent_home):
    return t2agent_home / "cache" / "embeddings.sqlite"


def test_vectors_are_the_encoders_in_half_precision(words):
    found = ExampleVectors(Encoder()).of(TEXTS)

    assert found.dtype == np.float32
    expected = Encoder().encode(TEXTS).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    assert ExampleVectors(Encoder()).of([]).shape == (0, words.dimension)


def test_a_second_dispatcher_encodes_nothing(words, cache):
    first = ExampleVectors(Encoder()).of(TEXTS)
    assert len(words.encoded) == 3  # each text once
    words.encoded.clear()

    second = ExampleVectors(Encoder()).of(TEXTS[::-1])

    assert words.encoded == []
    np.testing.assert_array_equal(second, first[::-1])
    assert cache.is_file()


def test_texts_that_are_not_needed_leave_memory_but_not_the_disk(words):
    vectors = ExampleVectors(Encoder())
    vectors.of(TEXTS)
    vectors.forget_all_but(TEXTS[:1])
    words.encoded.clear()

    vectors.of(TEXTS)

    assert list(vectors._memory) != []
    assert words.encoded == []


def test_another_encoder_does_not_find_them(words):
    ExampleVectors(Encoder()).of(TEXTS)
    words.encoded.clear()
    words.seed = 8

    ExampleVectors(Encoder()).of(TEXTS)

    assert len(words.encoded) == 3


def test_a_damaged_cache_is_built_anew(words, cache, caplog):
    expected = ExampleVectors(Encoder()).of(TEXTS)
    cache.write_bytes(b"no data base" * 400)

    np.testing.assert_array_equal(ExampleVectors(Encoder()).of(TEXTS), expected)
    assert "damaged" in caplog.text
    words.encoded.clear()
    ExampleVectors(Encoder()).of(TEXTS)
    assert words.encoded == []


@pytest.mark.parametrize("damage", ["x'00'", "zeroblob(128)", "NULL", "'text'"])
def test_a_damaged_vector_is_encoded_anew(words, cache, damage):
    expected = ExampleVectors(Encoder()).of(TEXTS)
    with closing(sqlite3.connect(cache)) as data, data:
        data.execute(f"UPDATE vectors SET vector = {damage} WHERE rowid = 1")
    words.encoded.clear()

    np.testing.assert_array_equal(ExampleVectors(Encoder()).of(TEXTS), expected)
    assert len(words.encoded) == 1


def test_a_cache_that_cannot_be_written_is_no_error(words, t2agent_home):
    (t2agent_home / "cache").write_bytes(b"a file where the folder should be")

    assert len(ExampleVectors(Encoder()).of(TEXTS)) == 4


def test_the_cache_does_not_grow_without_end(words, cache, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 5)
    vectors = ExampleVectors(Encoder())
    for n in range(4):
        vectors.of([f"text {n} {k}" for k in range(4)])

    with closing(sqlite3.connect(cache)) as data:
        assert data.execute("SELECT count(*) FROM vectors").fetchone() == (5,)


@pytest.fixture
def shipped(words, tmp_path, monkeypatch):
    """A folder of shipped texts of our own, with its vectors written."""
    monkeypatch.setattr(module, "examples_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "_shipped_texts", lambda: sorted(set(TEXTS)))
    path = write_shipped()
    words.encoded.clear()
    return path


def test_shipped_vectors_are_not_encoded_again(words, shipped, cache):
    found = ExampleVectors(Encoder()).of(TEXTS)

    assert words.encoded == []
    assert not cache.exists()
    shipped.unlink()
    np.testing.assert_array_equal(ExampleVectors(Encoder()).of(TEXTS), found)
    assert len(words.encoded) == 3


@pytest.mark.parametrize("content", [b"", b"\xff" * 100])
def test_a_damaged_shipped_file_is_not_used(words, shipped, content, caplog):
    shipped.chmod(stat.S_IRUSR | stat.S_IWUSR)
    shipped.write_bytes(content)

    assert len(ExampleVectors(Encoder()).of(TEXTS)) == 4
    assert len(words.encoded) == 3
    assert "is not used" in caplog.text


def test_shipped_vectors_of_another_encoder_are_not_used(words, shipped):
    words.seed = 8

    ExampleVectors(Encoder()).of(TEXTS)

    assert len(words.encoded) == 3


def test_the_shipped_file_covers_all_that_ships():
    path = examples_folder() / "vectors.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not in the tree; python -m t2agent.dispatch.vectors writes it")
    encoder = Encoder()
    found = _read_shipped(encoder.identity)

    wanted = {module._key(encoder.identity, text): text for text in _shipped_texts()}
    missing = [text for key, text in wanted.items() if key not in found]
    assert missing == [], "run: python -m t2agent.dispatch.vectors"
    assert len(found) == len(wanted)
    # And they are this encoder's, on any machine up to rounding.
    key, text = next(iter(wanted.items()))
    np.testing.assert_allclose(found[key].astype(np.float32), encoder.encode([text])[0], atol=2e-3)


def test_the_shipped_experts_need_no_encoding(monkeypatch):
    def encode(self, texts):
        raise AssertionError(f"{len(texts)} texts are encoded, {list(texts)[:2]} among them")

    monkeypatch.setattr(Encoder, "encode", encode)
    labels = EmbeddingDispatcher(Registry("t2-nano")).labels
    assert labels == ("code", "json", "math", "reasoning", "tools")
