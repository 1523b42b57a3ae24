"""Several tokens of a constrained reply in one pass: the reply stays what it is token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from t2agent.models import drafting
from t2agent.models import generate as generating
from t2agent.models.constrained import Constrained, looked_up
from t2agent.models.generate import Generation, Prompt, encode, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.reading import read_prompt
from t2agent.replies.constraint import json_constraint
from tests.experts import random_expert
from tests.models import build_text_model

TEXT = "a fixed text that nobody can choose"
FORCED = {"type": "object", "properties": {"place": {"const": TEXT}}, "required": ["place"]}
FREE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "tags"],
}
PROMPT = Prompt.user("name tags location a fixed text of the user")


def replied(model: T2Model, schema: dict[str, Any], limit: int, **more: Any) -> Generation:
    options = GenerationOptions(max_tokens=limit)
    [reply] = generate(model, [PROMPT], options, constraints=[json_constraint(schema)], **more)
    return reply


@pytest.mark.parametrize("schema", [FORCED, FREE], ids=["forced", "free"])
@pytest.mark.parametrize("limit", [14, 90])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_reply_is_that_of_token_by_token(
    schema: dict[str, Any], limit: int, adapted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_text_model()
    pieces: list[str] = []
    decoded = []
    decode = drafting.decode
    monkeypatch.setattr(drafting, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    with model.adapted(random_expert(model, "any") if adapted else None):
        got = replied(model, schema, limit, on_text=lambda _, piece: pieces.append(piece))
        monkeypatch.setattr(generating, "_branches", lambda *_: False)
        wanted = replied(model, schema, limit)
    assert len(decoded) == 1
    assert got == wanted
    assert "".join(pieces) == wanted.text


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_guessed_rightly_takes_no_pass_of_its_own(wrong: int | None) -> None:
    model = build_text_model()
    inputs = encode(model, [PROMPT])
    start = inputs["input_ids"].shape[1]
    ids = model.model.generate(**inputs, max_new_tokens=20, do_sample=False, eos_token_id=None)
    passes: list[int] = []

    def guess(tokens: torch.Tensor) -> list[int]:
        passes.append(1)
        known: list[int] = ids[0, tokens.shape[1] :][:7].tolist()
        if wrong is not None and len(known) > wrong:
            known[wrong] = (known[wrong] + 1) % 50
        return known

    logits, cache = read_prompt(model, inputs)
    got = drafting.decode(
        inputs["input_ids"],
        logits,
        drafting.CachedSteps(model.model, cache),
        limit=20,
        pad=0,
        ends=frozenset(),
        scores=lambda _, scores: scores,
        done=lambda tokens, _: torch.zeros(len(tokens), dtype=torch.bool),
        guess=guess,
    )
    assert torch.equal(got[:, start:], ids[:, start:])
    assert len(passes) == (3 if wrong is None else 5)


def test_what_a_grammar_forces_is_guessed_as_the_tokenizer_spells_it() -> None:
    model = build_text_model()
    spelled = model.tokenizer('{"place": "' + TEXT, add_special_tokens=False)["input_ids"]
    start = len(spelled) - len(model.tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    held = Constrained(model, [json_constraint(FORCED)], ends=frozenset({2}), limit=200, start=0)
    scores = torch.zeros(1, len(model.tokenizer))
    for size in range(1, start + 2):
        held(torch.tensor([spelled[: size - 1]]).view(1, -1).long(), scores)
        found = held.guess(torch.tensor([spelled[:size]]))
    assert found[:8] == spelled[start + 1 :][:8]
    allowed = held(torch.tensor([spelled[: start + 1]]), scores)
    assert bool(allowed[0, found[0]] == 0)


def test_what_stood_before_is_looked_up() -> None:
    assert looked_up([1, 2, 3, 4, 5, 9, 2, 3, 4], 2) == [5, 9]
    assert looked_up([1, 2, 7, 8, 2, 8, 3, 2], 3) == [8, 3, 2]
    assert looked_up([1, 2, 3], 3) == []
