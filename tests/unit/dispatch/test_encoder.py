from __future__ import annotations

import threading

import numpy as np
import pytest

from t2agent.dispatch.encoder import DEFAULT_ENCODER, Encoder
from t2agent.errors import ConfigError

TEXTS = ["What is 3 + 4?", "Write a loop.", "x" * 20_000]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    found = Encoder()
    assert found.identity  # loaded now, before a test puts another model in its place
    return found


def test_the_default_comes_with_a_package(encoder):
    vectors = encoder.encode(TEXTS)

    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    assert encoder.dimension == 384
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_the_other_texts(encoder):
    together = encoder.encode(TEXTS)

    assert all(
        (encoder.encode([text])[0] == row).all() for text, row in zip(TEXTS, together, strict=True)
    )


def test_likeness_is_of_meaning(encoder):
    question, same, other = encoder.encode(
        ["How much is seven times eight?", "Multiply 7 by 8.", "Who painted the Mona Lisa?"]
    )

    assert question @ same > question @ other + 0.2


@pytest.mark.parametrize("text", ["", " \n", "\x00", "half a pair: \ud83d", "\udc00"])
def test_odd_texts_have_vectors(encoder, text):
    assert np.isfinite(encoder.encode([text])).all()


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_threads_share_it(encoder):
    texts = [f"Add {n} and {n + 1}." for n in range(12)]
    expected = encoder.encode(texts)
    found = [np.zeros(0)] * 4

    def work(k: int) -> None:
        found[k] = encoder.encode(texts[k::4])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all((found[k] == expected[k::4]).all() for k in range(4))


def test_identity_tells_models_apart(encoder, words):
    assert Encoder().identity != encoder.identity
    before = Encoder().identity
    words.max_seq_length = 8
    assert Encoder().identity != before


def test_a_folder_is_a_model_too(encoder):
    from t2agent.dispatch.encoder import _find

    folder = _find(DEFAULT_ENCODER)
    again = Encoder(folder)

    assert again.identity == encoder.identity
    assert (again.encode(TEXTS[:1]) == encoder.encode(TEXTS[:1])).all()


def test_an_unknown_name_is_an_error_on_first_use():
    with pytest.raises(ConfigError, match=r"nobody/no-such-model.*default is all-MiniLM-L6-v2"):
        Encoder("nobody/no-such-model").encode(["text"])


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Encoder(str(tmp_path)).encode(["text"])


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_needed(name):
    with pytest.raises(ConfigError, match="give the name or the folder"):
        Encoder(name)
