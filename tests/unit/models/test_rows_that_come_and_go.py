"""Rows that come and go: each reply is the one that its request gets alone."""

from __future__ import annotations

import functools

import pytest

from t2agent import T2Model
from t2agent.models.generate import generate
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.models.rows import Asked, Row, Rows
from t2agent.replies.constraint import json_constraint

TEXTS = ("What is 7 * 3 + 12?", "Hello!", "Name three colours.", "Add 4 and 5, please.", "2+2?")
EXPERTS = (None, "math", "json", {"math": 0.6, "code": 0.4})


@pytest.fixture(scope="module")
def model() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


def asks(count: int) -> list[tuple[Prompt, object, GenerationOptions]]:
    """Requests of several mixtures, lengths and ways to sample."""
    return [
        (
            Prompt.user(TEXTS[number % len(TEXTS)] + "!" * (number // len(TEXTS))),
            EXPERTS[number % len(EXPERTS)],
            GenerationOptions(
                max_tokens=3 + 7 * (number % 5),
                temperature=0.8 if number % 3 else 0.0,
                seed=number,
                stop=("answer",) if number % 4 == 1 else (),
            ),
        )
        for number in range(count)
    ]


def alone(model: T2Model, prompt: Prompt, what, options: GenerationOptions, **more):
    with model.adapted(what):
        [found] = generate(model, [prompt], options, **more)
    return found


def row(model: T2Model, prompt: Prompt, what, options: GenerationOptions, **more) -> Row:
    return Row(model, Asked(prompt=prompt, options=options, what=model.resolve(what), **more))


def test_each_reply_is_that_of_the_request_alone(model):
    given = asks(17)
    rows, batch, waiting = [row(model, *one) for one in given], Rows(model), list(range(17))
    most = 0
    while waiting or len(batch):
        while waiting and len(batch) < 5:
            batch.join(rows[waiting.pop(0)])
        most = max(most, len(batch))
        batch.step()
    assert most == 5
    for one, own in zip(given, rows, strict=True):
        found, wanted = own.generation(), alone(model, *one)
        assert (found.text, found.token_ids) == (wanted.text, wanted.token_ids)
        assert found.finish_reason == wanted.finish_reason
        assert found.prompt_tokens == wanted.prompt_tokens


def test_a_row_that_leaves_makes_room_at_once(model):
    batch = Rows(model)
    long = row(
        model, Prompt.user("Hello"), None, GenerationOptions(max_tokens=40, temperature=2.0, seed=1)
    )
    short = row(
        model, Prompt.user("Hi"), None, GenerationOptions(max_tokens=3, temperature=2.0, seed=1)
    )
    batch.join(long)
    batch.join(short)
    ended = [batch.step() for _ in range(2)]
    assert ended == [[], [short]]
    assert len(batch) == 1
    batch.close()


def test_a_cancelled_row_s_pieces_are_its_text(model):
    batch, pieces = Rows(model), []
    options = GenerationOptions(max_tokens=40, temperature=2.0, seed=1)
    one = row(model, Prompt.user("Hello"), None, options, on_text=pieces.append)
    batch.join(one)
    batch.step()
    one.asked.cancel.set()
    assert batch.step() == [one]
    found = one.generation()
    assert "".join(pieces) == found.text == model.tokenizer.decode(found.token_ids)


def test_a_cancelled_row_leaves_with_what_it_has(model):
    batch = Rows(model)
    one = row(
        model, Prompt.user("Hello"), None, GenerationOptions(max_tokens=40, temperature=2.0, seed=1)
    )
    batch.join(one)
    batch.step()
    one.asked.cancel.set()
    assert batch.step() == [one]
    found = one.generation()
    assert found.finish_reason == "cancelled"
    assert len(found.token_ids) == 2


def test_the_model_is_left_as_it_was(model):
    batch = Rows(model)
    batch.join(row(model, Prompt.user("7 * 3?"), "math", GenerationOptions(max_tokens=30)))
    batch.step()
    assert model.entered
    while len(batch):
        batch.step()
    assert not model.entered


def test_pieces_add_up_and_json_is_held(model):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    constraint = json_constraint(schema)
    options = GenerationOptions(max_tokens=20)
    pieces: list[str] = []
    own = row(model, Prompt.user("7?"), None, options, constraint=constraint, on_text=pieces.append)
    batch = Rows(model)
    batch.join(own)
    while len(batch):
        batch.step()
    wanted = alone(model, Prompt.user("7?"), None, options, constraints=[constraint])
    assert "".join(pieces) == own.generation().text == wanted.text


def test_log_probabilities_are_those_of_the_request_alone(model):
    options = GenerationOptions(max_tokens=6, logprobs=2)
    batch, own = Rows(model), row(model, Prompt.user("7 * 3?"), "math", options)
    batch.join(own)
    batch.join(row(model, Prompt.user("Hello there"), None, GenerationOptions(max_tokens=9)))
    while len(batch):
        batch.step()
    found = own.generation().logprobs
    wanted = alone(model, Prompt.user("7 * 3?"), "math", options).logprobs
    assert [one.token for one in found] == [one.token for one in wanted]
    assert [one.logprob for one in found] == pytest.approx([o.logprob for o in wanted], abs=0.05)
    assert all(len(one.top) == 2 for one in found)


def test_what_prompts_begin_with_is_read_once(model, monkeypatch):
    """Of the second prompt only the new tokens are run, with the same reply."""
    begin = {"role": "system", "content": "You are a careful helper. " * 14}
    prompts = [Prompt((begin, {"role": "user", "content": text})) for text in TEXTS[:2]]
    options = GenerationOptions(max_tokens=12)
    read: list[int] = []
    whole = model.model.forward

    @functools.wraps(whole)
    def forward(*args, **kwargs):
        read.append(kwargs["input_ids"].shape[1])
        return whole(*args, **kwargs)

    wanted = [alone(model, prompt, "math", options) for prompt in prompts]
    monkeypatch.setattr(model.model, "forward", forward)
    for prompt, want in zip(prompts, wanted, strict=True):
        batch, own = Rows(model), row(model, prompt, "math", options)
        batch.join(own)
        while len(batch):
            batch.step()
        assert own.generation().token_ids == want.token_ids
    first, left, second = [count for count in read if count > 1]
    assert second < first / 4
    other = row(model, prompts[0], "json", options)
    read.clear()
    Rows(model).join(other)
    assert read == [first, left]  # by another mixture, nothing is known of it


def test_positions_and_images_are_those_of_the_request_alone(model):
    from t2agent.nano.tasks import TASKS

    example = TASKS["read"].sample(1, seed=1, split="test")[0]
    prompt, options = Prompt.of(example), GenerationOptions(max_tokens=20)
    batch, own = Rows(model), row(model, prompt, "read", options)
    batch.join(row(model, Prompt.user("Hello"), None, GenerationOptions(max_tokens=5)))
    batch.join(own)
    while len(batch):
        batch.step()
    assert own.generation().token_ids == alone(model, prompt, "read", options).token_ids


def test_a_context_that_is_full_ends_a_row(model):
    long = Prompt.user("a b c d " * 120)
    own = row(model, long, None, GenerationOptions(max_tokens=2000))
    assert own.limit == model.context_length - own.start < 2000
    assert Rows.takes(model, own.longest)
