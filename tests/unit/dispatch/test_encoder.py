from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from t2agent.dispatch.bert import BertEncoder
from t2agent.dispatch.encoder import DEFAULT_ENCODER, Encoder, _find
from t2agent.dispatch.shipped_requests import DOMAINS, shipped_requests
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


@pytest.fixture(scope="module")
def framework() -> SentenceTransformer:
    return SentenceTransformer(_find(DEFAULT_ENCODER), device="cpu").eval()


def test_vectors_are_those_of_sentence_transformers(encoder, framework):
    texts = [
        *TEXTS,
        "",
        " \n\t",
        "ÀÉ Größe, naïve \u0130stanbul",
        "漢字 and 😀 \u200b\x00\ufffd",
        "[SEP] [CLS] [MASK] ##ing",
        "Please read this: " + "the quick brown fox jumps over the lazy dog; " * 40,
        *(request.prompt for domain in DOMAINS for request in shipped_requests(domain)[::60]),
    ]
    expected = framework.encode(texts, batch_size=1, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=1e-6)


def test_an_encoder_of_another_form_goes_through_the_framework(encoder, framework, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(_find(DEFAULT_ENCODER), other)
    pooling = other / "1_Pooling" / "config.json"
    told = json.loads(pooling.read_text())
    told |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    pooling.write_text(json.dumps(told))
    assert BertEncoder.read(other) is None
    by_first_token = Encoder(str(other))
    assert by_first_token.identity != encoder.identity
    assert by_first_token.dimension == 384
    expected = SentenceTransformer(str(other)).encode(TEXTS[:1], normalize_embeddings=True)
    np.testing.assert_allclose(by_first_token.encode(TEXTS[:1]), expected, rtol=0, atol=1e-6)
    assert not np.allclose(expected, encoder.encode(TEXTS[:1]), atol=1e-2)


def test_damaged_weights_are_an_error(tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(_find(DEFAULT_ENCODER), damaged)
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Encoder(str(damaged)).encode(["text"])


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
    words.seed = 8
    assert Encoder().identity != before


def test_a_folder_is_a_model_too(encoder):
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
