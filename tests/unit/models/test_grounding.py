"""Values lose that are not in what was said, and texts that leave a value half-way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from t2agent.engine.two_passes import Engine
from t2agent.experts.expert import Expert
from t2agent.models.compiling import Tokens
from t2agent.models.constrained import Constrained
from t2agent.models.generate import Prompt
from t2agent.models.model import T2Model
from t2agent.replies.constraint import (
    Constraint,
    json_constraint,
    text_constraint,
    tools_constraint,
)
from t2agent.replies.format import GENERAL
from tests.experts import random_expert
from tests.models import build_text_model

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "guests": {"type": "number"},
        "seat": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
SAID = "A table at Café Rome for two, 12,500 points; the code is 90.45.30."


@pytest.fixture(scope="module")
def model() -> T2Model:
    return build_text_model(context=2048)


def losses(model: T2Model, constraint: Constraint, text: str, nats: float = 4.0) -> str:
    """The text, as it is spelled letter by letter, with a "#" before each letter that loses."""
    grounded = replace(constraint, grounding=nats)
    tokens = letters(model, text)
    rows = [
        Constrained(model, [one], ends=frozenset(), limit=2000, start=0)
        for one in (replace(constraint, values=()), grounded)
    ]
    marked = ""
    for at, token in enumerate(tokens):
        ids, scores = torch.tensor([tokens[:at]]), torch.zeros(1, len(model.tokenizer))
        plain, lower = (row(ids, scores)[0] for row in rows)
        change = float((lower - plain)[token])
        assert change in (0.0, -nats)
        marked += "#" * bool(change) + model.tokenizer.decode([token])
    return marked


def letters(model: T2Model, text: str) -> Sequence[int]:
    ids = Tokens.of(model).ids
    return [ids[bytes([byte])] for byte in text.encode()]


@pytest.mark.parametrize(
    "text",
    [
        # What was said, in its own words, with numbers as JSON writes them.
        '{"name": "table", "guests": 2}',
        '{"name": "Rome", "guests": 12500}',
        '{"name": "90.45.30", "tags": ["code", "points"]}',
        '{"name": "", "tags": []}',
        # Once, where a value leaves it, whatever follows.
        '{"name": "#Paris", "guests": #7}',
        '{"name": "Rom#ania"}',
        '{"name": "tab#"}',
        '{"name": "#rome"}',
        '{"name": "R#OME"}',
        '{"name": "90.45#"}',
        '{"guests": 12#, "tags": ["table", "#sofa"]}',
        '{"guests": 3#}',  # of 30
        '{"guests": -2}',
        # A value that an argument before has, but in an array.
        '{"name": "table", "seat": "table#", "tags": ["Rome", "Rome", "table"]}',
    ],
)
def test_a_value_loses_where_it_leaves_what_was_said(model: T2Model, text: str) -> None:
    constraint = replace(json_constraint(SCHEMA), said=SAID)
    assert losses(model, constraint, text.replace("#", "")) == text


def test_arguments_of_calls_lose_and_names_do_not(model: T2Model) -> None:
    offered = [
        {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
        for name in ("reserve", "cancel")
    ]
    constraint = replace(tools_constraint(GENERAL, offered, choice="required"), said=SAID)
    text = GENERAL.write([("cancel", {"name": "Rome"}), ("reserve", {"name": "Oslo"})])
    assert losses(model, constraint, text) == text.replace("Oslo", "#Oslo")
    free = replace(tools_constraint(GENERAL, offered), said=SAID)
    words = 'He said "yes" and {"a": "b", '
    assert losses(model, free, words + text) == words + text.replace("Oslo", "#Oslo")


def test_a_value_that_the_schema_names_is_the_likelier_for_being_said(model: T2Model) -> None:
    schema = {"type": "object", "properties": {"size": {"enum": ["table", "sofa"]}}}
    constraint = replace(json_constraint(schema), said=SAID)
    assert losses(model, constraint, '{"size": "table"}') == '{"size": "table"}'
    assert losses(model, constraint, '{"size": "sofa"}') == '{"size": "#sofa"}'


@pytest.mark.parametrize(
    "text",
    [
        "I found Capri By Fraser Kuala Lumpur: 4 stars.",
        "I found Capri By Fraser #Lumpur, which is cheap.",
        "Rocknwraps And Kab#bs is open.",
        "The caprice and Rockn#",
    ],
)
def test_a_text_loses_that_leaves_a_value(model: T2Model, text: str) -> None:
    values = ("Capri By Fraser Kuala Lumpur", "Rocknwraps And Kabobs", "Capri By")
    constraint = replace(text_constraint(), values=values)
    assert losses(model, constraint, text.replace("#", "")) == text.removesuffix("#")


def test_rows_that_branch_are_weighed_by_themselves(model: T2Model) -> None:
    constraint = replace(json_constraint(SCHEMA), said=SAID, grounding=4.0)
    rows = Constrained(model, [constraint], ends=frozenset(), limit=2000, start=0)
    begun = letters(model, '{"name": "Ro')
    zeros = torch.zeros(1, len(model.tokenizer))
    for at in range(len(begun) + 1):
        rows(torch.tensor([begun[:at]]), zeros)
    rows.branch([0, 0])
    both = torch.tensor([[*begun, *letters(model, one)] for one in ("m", "x")])
    scores = rows(both, zeros.repeat(2, 1))
    [letter] = letters(model, "e")
    [other] = letters(model, "a")
    assert scores[0, letter] - scores[0, other] == 4.0
    assert scores[1, letter] == scores[1, other]  # it has left before


def test_half_a_character_is_read(model: T2Model) -> None:
    half = json.loads('"Caf\\ud83d Rome"')
    constraint = replace(json_constraint(SCHEMA), said=half)
    assert losses(model, constraint, '{"name": "Rome"}') == '{"name": "Rome"}'
    constraint = replace(text_constraint(), values=(half,))
    assert losses(model, constraint, "Caf and") == "Caf# and"


def test_said_is_json(model: T2Model) -> None:
    said = 'She wrote "Back\\slash"\nand left'
    constraint = replace(json_constraint(SCHEMA), said=said)
    text = json.dumps({"name": 'wrote "Back\\slash"\nand left'})
    assert losses(model, constraint, text) == text


def test_experts_say_how_much_a_value_loses(model: T2Model) -> None:
    own = random_expert(model, "one")
    for name, step, nats in (("fields", "json", 3.0), ("tells", "results", 2.0)):
        card = replace(own.card, name=name, step=step, grounding=nats)
        model.registry.register(Expert(card, own.z), replace=True)
    engine = Engine(model, "off")
    asked = {"role": "user", "content": "Is it raining?"}
    back = {"role": "assistant", "content": "Where?"}
    prompt = Prompt((asked, back, {"role": "user", "content": "In Oslo."}))
    constraint = json_constraint(SCHEMA)

    found = engine.held(prompt, constraint, model.resolve("fields"))
    assert found is not None
    assert (found.said, found.grounding) == ("Is it raining?\nIn Oslo.", 3.0)
    half = engine.held(prompt, constraint, model.resolve({"fields": 0.5, "tells": 0.5}))
    assert half is not None
    assert half.grounding == 2.5
    base = engine.held(prompt, constraint, model.resolve(None))
    assert base is not None
    assert not base.grounding

    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": {}}}
    calls = {"role": "assistant", "content": "", "tool_calls": [call]}

    def told(result: str, who: str = "tells") -> Constraint | None:
        answer = {"role": "tool", "tool_call_id": "a", "content": result}
        return engine.held(Prompt((asked, calls, answer)), None, model.resolve(who))

    values = told('[{"city": "Oslo", "at": ["Blindern", 3]}, {"city": "Oslo"}]')
    assert values is not None
    assert (values.values, values.grounding) == (("Oslo", "Blindern"), 2.0)
    assert told("It is raining.") is None
    assert told("[" * 5000) is None
    assert told('{"city": "Oslo"}', "fields") is None
