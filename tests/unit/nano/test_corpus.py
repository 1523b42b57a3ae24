"""Drawing, documents and batches."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from t2agent.nano import corpus, drawing, processor
from t2agent.nano.domains import image
from t2agent.nano.drawing import Mark, Scene
from t2agent.nano.processor import END
from t2agent.nano.words import SHAPES


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return processor.train_tokenizer(corpus.texts(1500, 0))


def test_patches_are_labelled_with_what_they_show() -> None:
    scene = Scene(250, (Mark("bar", "red", 8, 16, 24), Mark("7", "blue", 40, 40, 20)))
    picture, what, tone = drawing.render(scene)
    assert picture.size == (64, 64)
    what, tone = what.reshape(8, 8), tone.reshape(8, 8)
    assert (what[2:5, 1] == 11).all()
    assert (tone[2:5, 1] == 1).all()
    assert set(what[5:, 5:].flat) == {0, 8}
    assert set(tone[5:, 5:].flat) == {0, 2}
    assert not what[0].any()
    assert picture.getpixel((12, 30)) == (205, 35, 35)


def label(what: str) -> int:
    if what in SHAPES:
        return 12 + SHAPES.index(what)
    return 11 if what == "bar" else 1 + int(what)


def test_every_mark_lies_inside_the_image() -> None:
    rng = random.Random(0)
    for maker in corpus.IMAGES:
        for _ in range(60):
            scene = maker(rng).scene
            assert scene is not None
            picture = np.asarray(scene.render(), np.int64)
            edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
            assert (np.abs(edge - scene.background) < 60).all(), scene
            _, what, _ = drawing.render(scene)
            shown = {v for v in what.tolist() if v}
            wanted = {label(m.what) for m in scene.marks}
            assert shown == wanted


def test_an_image_is_what_the_processor_makes_of_it(tokenizer: PreTrainedTokenizerFast) -> None:
    stock = processor.build_processor(tokenizer)
    scene = image.read(random.Random(1)).scene
    assert scene is not None
    content = [{"type": "image"}, {"type": "text", "text": "What number?"}]
    prompt = stock.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = stock(text=[prompt], images=[[scene.render()]], return_tensors="pt")
    pixels, _, _ = corpus.pixels_of([scene])
    assert torch.equal(inputs["pixel_values"][0], pixels)
    packer = corpus.Packer(tokenizer, 1, 0)
    turns = (("<|user|><image>What number?", False), ("<|assistant|>7", True))
    ids, weights = packer._encode(corpus.Document(turns, scene))
    prefix = inputs["input_ids"][0].tolist()
    assert ids[: len(prefix)] == prefix
    # The reply and its end are what is learnt; the role belongs to the prompt.
    assert weights[len(prefix) - 1 :] == [0.0, 1.0, 1.0]
    assert ids[-1] == tokenizer.convert_tokens_to_ids(END)


def test_digits_are_tokens_and_any_text_survives(tokenizer: PreTrainedTokenizerFast) -> None:
    assert {"3", "1", "2"} <= set(tokenizer.tokenize("sorted([3, 12])"))
    for text in ("12 * 7 = 84.", "Grüße, 世界! \n\t{x}", "<image>"[:-1]):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_batches_are_reproducible_and_packed(tokenizer: PreTrainedTokenizerFast) -> None:
    packer = corpus.Packer(tokenizer, 8, 6)
    one, same = (packer.batch("a", clean=False) for _ in range(2))
    assert torch.equal(one.ids, same.ids)
    assert torch.equal(one.pixels, same.pixels)
    assert not torch.equal(one.ids, packer.batch("b", clean=False).ids)
    assert one.pixels.shape == (6, 3, 64, 64)
    token = tokenizer.convert_tokens_to_ids("<image>")
    assert int((one.ids == token).sum()) == 6 * processor.IMAGE_TOKENS
    assert (one.document >= 0).float().mean() > 0.75
    for row in range(8):
        for number in one.document[row].unique().tolist():
            if number >= 0:
                at = (one.document[row] == number).nonzero().flatten()
                assert torch.equal(one.position[row, at], torch.arange(len(at)))
                assert one.weight[row, at[0]] == 0
    assert (one.weight[one.document < 0] == 0).all()


def test_the_dense_stage_has_images_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = corpus.Packer(tokenizer, 0, 5).batch("a", clean=True)
    assert batch.ids.shape[0] == 0
    assert batch.pixels.shape[0] == batch.what.shape[0] == 5
