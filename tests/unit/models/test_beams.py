"""Replies that are searched, against the scores of all that a grammar allows."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from t2agent import Expert
from t2agent.engine.batching import Call, answer_together
from t2agent.engine.scheduler import Scheduler
from t2agent.engine.two_passes import Engine, Given
from t2agent.models import beams as models_beams
from t2agent.models.beams import beams
from t2agent.models.generate import Generation, Prompt, encode, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.replies.constraint import (
    Constraint,
    json_constraint,
    options_constraint,
    tools_constraint,
)
from t2agent.replies.format import GENERAL
from tests.experts import random_expert
from tests.models import build_text_model

PROMPTS = [Prompt.user(text) for text in ("name tags location", "a b c", "12 + 7", "the text of x")]
OPTIONS = ("abba", "abab", "baab", "b", "bbbb", "a long one", "a text", "the end")
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yz", 12]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
}
WIDE = GenerationOptions(max_tokens=60, num_beams=16)
GREEDY = replace(WIDE, num_beams=1)


@pytest.fixture(scope="module")
def model() -> T2Model:
    return build_text_model()


def likelihood(model: T2Model, prompt: Prompt, reply: Generation) -> float:
    """The logarithm of the reply's probability: the model's own, which knows no grammar."""
    inputs = encode(model, [prompt])
    start, new = inputs["input_ids"].shape[1], torch.tensor([reply.token_ids])
    with torch.no_grad():
        ids = torch.cat([inputs["input_ids"], new], 1)
        logits = model.model(input_ids=ids).logits[:, start - 1 : -1].float()
    return float(torch.log_softmax(logits, -1).gather(2, new[..., None]).sum())


def searched(
    model: T2Model, prompt: Prompt, held: Constraint, options: GenerationOptions = WIDE, **more: Any
) -> Generation:
    [reply] = generate(model, [prompt], options, constraints=[held], **more)
    return reply


@pytest.mark.parametrize("held", [options_constraint(OPTIONS), json_constraint(SCHEMA)])
def test_a_reply_is_likelier_than_the_greedy_one(model: T2Model, held: Constraint) -> None:
    gains = []
    for seed in range(4):
        with model.adapted(random_expert(model, "any", seed=seed)):
            for prompt in PROMPTS:
                pair = [searched(model, prompt, held, options) for options in (WIDE, GREEDY)]
                wide, greedy = (likelihood(model, prompt, one) for one in pair)
                gains.append(wide - greedy)
    # A search is not sure to find it, least of all where every token is as good as any other.
    assert sum(gain > -1e-4 for gain in gains) >= 14
    assert sum(gain > 0.5 for gain in gains) >= 6


def test_it_is_the_likeliest_of_all_where_none_is_given_up(
    model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_beams, "_FAR", 1e9)
    for prompt in PROMPTS:
        each = [searched(model, prompt, options_constraint([one])) for one in OPTIONS]
        best = max(each, key=lambda one: likelihood(model, prompt, one))
        found = searched(model, prompt, options_constraint(OPTIONS))
        assert found.text == best.text
        assert found.finish_reason == "stop"


def test_pieces_are_the_text_and_come_before_its_end(model: T2Model) -> None:
    for prompt in PROMPTS:
        pieces: list[str] = []
        got = searched(
            model, prompt, json_constraint(SCHEMA), on_text=lambda _, one, to=pieces: to.append(one)
        )
        assert "".join(pieces) == got.text
        assert len(pieces) > 1
        assert got == searched(model, prompt, json_constraint(SCHEMA))


def test_stop_texts_limits_and_cancelling_end_it(model: T2Model) -> None:
    held, [prompt, *_] = json_constraint(SCHEMA), PROMPTS
    whole = searched(model, prompt, held).text
    stopped = searched(model, prompt, held, replace(WIDE, stop=(whole[2:4],)))
    assert (stopped.text, stopped.finish_reason) == (whole[:2], "stop")
    for limit in (1, 2, 5, 9):
        short = searched(model, prompt, held, replace(WIDE, max_tokens=limit))
        assert len(short.token_ids) <= limit
        assert short.finish_reason in ("stop", "length")
    cancel = threading.Event()
    ended = searched(model, prompt, held, cancel=cancel, on_text=lambda *_: cancel.set())
    assert ended.finish_reason == "cancelled"
    assert whole.startswith(ended.text)
    assert len(ended.text) < len(whole)


def test_free_text_is_as_without_a_search(model: T2Model) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    held = tools_constraint(GENERAL, [tool])
    for prompt in PROMPTS:
        assert searched(model, prompt, held) == searched(model, prompt, held, GREEDY)


def test_a_long_prompt_has_fewer_beginnings(
    model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = json_constraint(SCHEMA)
    wide, greedy = (
        [searched(model, prompt, held, options).text for prompt in PROMPTS]
        for options in (WIDE, GREEDY)
    )
    monkeypatch.setattr(models_beams, "TOKENS", 100)
    assert [searched(model, prompt, held).text for prompt in PROMPTS] == greedy != wide


def test_where_nothing_is_searched(model: T2Model) -> None:
    held = json_constraint(SCHEMA)
    three = replace(held, beams=3)
    assert beams(GREEDY, held) == 1
    assert beams(replace(WIDE, num_beams=None), three) == 3
    assert beams(WIDE, three) == 16
    assert beams(WIDE, None) == 1
    for more in ({"temperature": 0.5}, {"logprobs": 0}, {"repetition_penalty": 1.5}):
        assert beams(replace(WIDE, **more), three) == 1  # type: ignore[arg-type]


def test_an_expert_s_beams_hold_alone_in_a_batch_and_on_a_server(model: T2Model) -> None:
    own = random_expert(model, "wide", seed=1)
    wide = Expert(replace(own.card, beams=8), own.z)
    plain = Expert(replace(own.card, name="plain"), own.z)
    engine, scheduler = Engine(model, "off"), Scheduler(model)
    held, options = json_constraint(SCHEMA), replace(WIDE, num_beams=None)

    def calls(expert: Expert) -> list[Call]:
        return [Call(engine, prompt, options, Given(expert), held) for prompt in PROMPTS]

    alone = [answer_together([call])[0].generation for call in calls(wide)]
    with model.adapted(wide):
        eight = replace(WIDE, num_beams=8)
        assert alone == [searched(model, prompt, held, eight) for prompt in PROMPTS]
    mixed = [*calls(wide), *calls(plain)]
    together = [one.generation for one in answer_together(mixed)]
    assert together[:4] == alone
    assert together[4:] != alone  # with one beam
    jobs = [scheduler.submit(call) for call in mixed]
    assert [job.future.result(60).generation for job in jobs] == together
    scheduler.close()
