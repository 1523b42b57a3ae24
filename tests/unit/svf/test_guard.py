"""What surrounds a model's forward passes: copies are free of it, encoders are not."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
from torch import Tensor

from t2agent.models.model import T2Model
from t2agent.svf.transform import uncompiled
from tests.architectures import Tokens, build, expert


def logits(network: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return network(**batch).logits


def test_a_copy_is_a_model_of_its_own() -> None:
    model, batch = build("llama")
    base = logits(model.model, batch)
    twin = copy.deepcopy(model.model)
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    assert not logits(twin, batch).any()
    assert torch.equal(logits(model.model, batch), base)
    with model._weights.own():  # the copy does not wait for the original's weights
        thread = threading.Thread(target=logits, args=(twin, batch), daemon=True)
        thread.start()
        thread.join(10)
    assert not thread.is_alive()
    ids = batch["input_ids"]
    assert twin.generate(ids, max_new_tokens=2, pad_token_id=0)[:, -1].tolist() == [0, 0, 0]


def test_a_model_can_be_pickled() -> None:
    model, batch = build("llama")
    file = io.BytesIO()
    torch.save(model.model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(logits(again, batch), logits(model.model, batch))


def test_two_base_models_of_one_network_each_see_their_rows() -> None:
    model, batch = build("llava", targets="all+vision")
    second = T2Model(model.model, Tokens(), targets="all+vision")
    for each in (model, second):
        one = expert(each, "one", 1)
        base = logits(each.model, batch)
        with each.adapted(one):
            alone = logits(each.model, batch)
        with each.adapted([one, None, None]):
            rows = logits(each.model, batch)
        torch.testing.assert_close(rows[0], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rows[1:], base[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "llava"])
def test_encoders_of_generate_wait_for_the_weights(name: str) -> None:
    model, batch = build(name)
    encoder = model.model.get_encoder(**({} if name == "t5" else {"modality": "image"}))
    entered = threading.Event()
    (encoder.block if name == "t5" else encoder.encoder.layers)[0].register_forward_pre_hook(
        lambda *_: entered.set()
    )
    batch.pop("decoder_input_ids", None)
    work = threading.Thread(
        target=lambda: model.model.generate(**batch, max_new_tokens=1), daemon=True
    )
    with model._weights.own():
        work.start()
        assert not entered.wait(0.3)
    work.join(10)
    assert entered.is_set()


def test_generate_of_each_batch_has_its_own_rows() -> None:
    """The pictures of an earlier batch say nothing of the next one's."""
    model, batch = build("llava", targets="all+vision")
    one, two = expert(model, "one", 1, spread=1.0), expert(model, "two", 2, spread=1.0)
    turned = {key: value.flip(0) for key, value in batch.items()}
    options = {"max_new_tokens": 4, "do_sample": False, "output_logits": True}
    options |= {"return_dict_in_generate": True, "pad_token_id": 0, "eos_token_id": None}

    def first(inputs: dict[str, Tensor]) -> Tensor:
        return model.model.generate(**inputs, **options).logits[0]

    with model.adapted(two):
        wanted = first(turned)[2]
    with model.adapted([one, None, two]):
        first(batch)
        torch.testing.assert_close(first(turned)[2], wanted, rtol=1e-4, atol=1e-5)


def test_generate_may_be_called_again_inside() -> None:
    model, batch = build("t5")
    one = expert(model, "one", 1)
    batch.pop("decoder_input_ids")
    with model.adapted([one, None, one]):
        beams = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 3}
        rows = model.model.generate(**batch, **beams)
        assert torch.equal(model.model.generate(**batch, **beams), rows)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compiled_model_is_adapted(when: str) -> None:
    model, batch = build("llama")
    if when == "before":
        model.model.compile(backend="eager")
        model = T2Model(model.model, Tokens())
    else:
        model.model.compile(backend="eager")
    one = expert(model, "one", 1)
    base = logits(model.model, batch)
    plain, _ = build("llama")
    with plain.adapted(one):
        wanted = logits(plain.model, batch)
    for what in (one, [one, None, one]):
        with model.adapted(what):
            got = logits(model.model, batch)
        torch.testing.assert_close(got[0], wanted[0], rtol=1e-4, atol=1e-5)
    with model.merged(one):
        torch.testing.assert_close(logits(model.model, batch), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(model.model, batch), base)


def test_overlapping_contexts_of_threads_leave_compiling_as_it_was() -> None:
    from torch._dynamo import eval_frame

    before = eval_frame._stance.stance
    left, leave = threading.Event(), threading.Event()

    def other() -> None:
        with uncompiled():
            left.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with uncompiled():
        thread.start()
        left.wait(10)
    assert eval_frame._stance.stance == "force_eager"
    leave.set()
    thread.join(10)
    assert eval_frame._stance.stance == before
