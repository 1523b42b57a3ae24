"""Decoding held to a grammar, on random weights: JSON that fits, closed before the budget ends."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
import xgrammar
from hypothesis import given, settings
from hypothesis import strategies as st

from t2agent.errors import ConfigError, GrammarError
from t2agent.models.closing import Speller
from t2agent.models.compiling import Tokens, compiled, room
from t2agent.models.constrained import Constrained, _Row
from t2agent.models.generate import Prompt, generate
from t2agent.models.options import GenerationOptions
from t2agent.replies.constraint import Constraint, json_constraint, tools_constraint
from t2agent.replies.format import GENERAL
from t2agent.replies.grammars import grammar
from tests.models import build_text_model
from tests.unit.replies.families import random_model
from tests.unit.replies.schemas import fits

LEAVES = st.sampled_from([
    {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"},
    {"type": "null"}, {"enum": ["red", "blue", 3]}, {"type": "string", "maxLength": 3},
    {"type": "string", "minLength": 2, "maxLength": 6},
    {"type": "string", "pattern": "^[a-c]{2}$"},
    {"type": "integer", "minimum": 3, "maximum": 40},
    {"anyOf": [{"type": "integer"}, {"type": "null"}]},
])  # fmt: skip


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["a", "key two", "日本", 'quo"te'])
    made = st.dictionaries(keys, inner, max_size=3)
    return made.flatmap(
        lambda found: st.sets(st.sampled_from(sorted(found)) if found else st.nothing()).map(
            lambda required: {
                "type": "object",
                "properties": found,
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    )


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner.map(lambda one: {"type": "array", "items": one, "maxItems": 4})


SCHEMAS = st.recursive(LEAVES, lambda inner: objects(inner) | arrays(inner), max_leaves=5)


def text_of(constraint: Constraint | None, limit: int, seed: int = 0, **more: Any) -> str:
    options = GenerationOptions(max_tokens=limit, temperature=1.0, seed=seed)
    model = random_model(real=False)
    [made] = generate(model, [Prompt.user("Go")], options, constraints=[constraint], **more)
    assert made.completion_tokens <= limit
    return made.text


@given(schema=SCHEMAS, seed=st.integers(0, 9), extra=st.integers(0, 60))
@settings(max_examples=60)
def test_json_fits_its_schema_within_the_budget(schema: Any, seed: int, extra: int) -> None:
    shortest = grammar(schema).least
    # About a token a byte, a space at each mark, and patterns written out.
    limit = 2 * len(shortest.encode()) + 40 + extra
    found = json.loads(text_of(json_constraint(schema), limit, seed))
    assert fits(found, schema), (schema, found)


@pytest.mark.parametrize("limit", range(12, 60, 4))
def test_any_object_is_closed(limit: int) -> None:
    for seed in range(3):
        assert isinstance(json.loads(text_of(json_constraint(True), limit, seed)), dict)


def test_masks_of_very_long_strings_are_right() -> None:
    """xgrammar's own long repetitions refuse tokens that their masks let through."""
    model = random_model(real=True)
    path = {"type": "string", "minLength": 1, "maxLength": 4096}
    schema = {"type": "object", "properties": {"path": path}, "required": ["path"]}
    held = json_constraint(schema, room=room(model))
    matcher = xgrammar.GrammarMatcher(compiled(model, held))
    assert matcher.accept_string('{"path": "ab')
    mask = xgrammar.allocate_token_bitmask(1, model.model.config.vocab_size)
    matcher.fill_next_token_bitmask(mask)
    words = mask[0].tolist()
    let = [n for n in range(0, len(words) * 32, 7) if words[n // 32] >> (n % 32) & 1]
    assert len(let) > 1000
    assert [n for n in let if not matcher.fork().accept_token(n)] == []


def test_a_row_without_a_constraint_is_free() -> None:
    model = random_model(real=False)
    options = GenerationOptions(max_tokens=20, temperature=1.0, seed=1)
    prompts = [Prompt.user("Go"), Prompt.user("Go")]
    held = json_constraint({"type": "integer"})
    free, bound = generate(model, prompts, options, constraints=[None, held])
    assert free.text == generate(model, prompts[:1], options)[0].text
    assert isinstance(json.loads(bound.text), int)


def test_rows_are_closed_at_their_own_pace() -> None:
    model = random_model(real=False)
    held = [json_constraint({"type": "boolean"}), json_constraint(True), None]
    options = GenerationOptions(max_tokens=30, temperature=1.0, seed=1)
    made = generate(model, [Prompt.user("Go")] * 3, options, constraints=held)
    assert json.loads(made[0].text) in (True, False)
    assert isinstance(json.loads(made[1].text), dict)
    assert made[0].finish_reason == "stop"


def test_samples_of_one_prompt_are_held() -> None:
    model = random_model(real=False)
    options = GenerationOptions(max_tokens=40, temperature=1.0, seed=1)
    held = json_constraint({"type": "array", "items": {"type": "integer"}})
    made = generate(model, [Prompt.user("Go")], options, samples=4, constraints=[held])
    assert all(isinstance(json.loads(one.text), list) for one in made)


PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
CALL = GENERAL.write([("weather", {"place": "Rome"})])
OPTIONAL = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "a long name of what may be left out": {}},
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PLACE}}
WHOLE = {
    "a call, where others may follow": (
        tools_constraint(GENERAL, [WEATHER], choice="required"),
        CALL,
    ),
    "a call in a free reply": (tools_constraint(GENERAL, [WEATHER]), CALL),
    "what leaves out an option": (json_constraint(OPTIONAL), '{"place": "Rome"}'),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_fits_is_not_closed_early(name: str) -> None:
    constraint, text = WHOLE[name]
    model = random_model(real=False)
    tokens = Tokens.of(model)
    ends, speller = tokens.made_of[1], Speller(tokens)
    # Some more, since xgrammar lets marks be written by single letters only.
    limit = speller.count(text.encode()) + 10
    held = Constrained(model, [constraint], ends=ends, limit=limit, start=0)
    rest, ids = text.encode(), torch.empty(1, 0, dtype=torch.int64)
    while rest:
        scores = torch.zeros(1, model.model.config.vocab_size)
        for token in speller.first(rest):
            scores[0, token] = len(tokens.texts[token])
        chosen = held(ids, scores).argmax(-1)
        assert rest.startswith(tokens.texts[int(chosen)]), rest
        rest = rest[len(tokens.texts[int(chosen)]) :]
        ids = torch.cat([ids, chosen[:, None]], 1)
    assert ids.shape[1] < limit


def test_a_pattern_without_an_end_in_sight_is_no_error() -> None:
    held = json_constraint({"type": "string", "pattern": "^([a-z]{3},){90}$"})
    assert text_of(held, 12)


def test_thoughts_come_first_and_are_ended_in_time() -> None:
    held = json_constraint({"type": "integer"}).after("</think>")
    for seed in range(4):
        thoughts, _, rest = text_of(held, 60, seed).partition("</think>")
        assert isinstance(json.loads(rest), int)
        assert "</think>" not in thoughts


def test_no_special_token_is_written_inside_a_grammar() -> None:
    model = random_model(real=False)
    options = GenerationOptions(max_tokens=120, temperature=1.0, seed=2)
    held = json_constraint({"type": "string", "minLength": 50})
    [made] = generate(model, [Prompt.user("Go")], options, constraints=[held])
    special = set(model.tokenizer.all_special_ids)
    assert not special & set(made.token_ids[:-1])


def test_what_no_grammar_can_be_made_of() -> None:
    model = random_model(real=False)
    with pytest.raises(GrammarError, match="no JSON"):
        json_constraint({"enum": [object()]})
    with pytest.raises(GrammarError, match="grammar"):
        compiled(model, json_constraint({"$ref": "#/nowhere"}))
    with pytest.raises(ConfigError, match="no tool"):
        tools_constraint(GENERAL, [], choice="x")
    endless = build_text_model()
    endless.tokenizer.eos_token = None
    endless.model.generation_config.eos_token_id = None
    with pytest.raises(ConfigError, match="end-of-sequence"):
        compiled(endless, json_constraint(True))


def test_equal_constraints_are_compiled_once() -> None:
    model = random_model(real=False)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert Tokens.of(model) is Tokens.of(model)
    assert json_constraint(schema) == json_constraint(dict(schema))


def test_a_token_that_is_refused_ends_the_reply_and_not_the_constraint() -> None:
    model = random_model(real=False)
    size = model.model.config.get_text_config().vocab_size
    row = _Row(model, json_constraint({"type": "integer"}), frozenset(), size)
    mask = xgrammar.allocate_token_bitmask(1, size)
    row.fill(mask, 0, 20, torch.zeros(size))
    tokens = Tokens.of(model)
    row.accept(tokens.ids[b"x"], tokens.made_of[1])
    assert not row.ended
    row.fill(mask, 0, 19, torch.zeros(size))
    allowed = [one for one in range(size) if int(mask[0, one // 32]) >> (one % 32) & 1]
    assert set(allowed) == set(tokens.made_of[1])
    row.accept(allowed[0], tokens.made_of[1])
    assert row.ended


LENGTHS: dict[str, Any] = {
    "most": {"type": "string", "maxLength": 40},
    "least": {"type": "string", "minLength": 30},
    "both, beside short ones": {
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 3},
            "b": {"type": "string", "minLength": 20, "maxLength": 25},
            "c": {"type": "string", "pattern": "^[b-f]{2}$"},
            "d": {"type": "string"},
        },
        "required": ["a", "b", "c", "d"],
    },
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_beside_the_grammar_are_those_within_it(name: str) -> None:
    model = random_model(real=False)
    size = model.model.config.get_text_config().vocab_size
    beside = json_constraint(LENGTHS[name], room=30)
    assert beside.exact
    assert beside.exact == json_constraint(LENGTHS[name]).format
    tokens = Tokens.of(model)
    ends = tokens.made_of[1]
    masks, scores = xgrammar.allocate_token_bitmask(2, size), torch.zeros(size)
    for seed in range(3):
        rows = [
            _Row(model, one, frozenset(), size) for one in (json_constraint(LENGTHS[name]), beside)
        ]
        rng, text = random.Random(seed), b""
        for left in range(300, 0, -1):
            for place, row in enumerate(rows):
                row.fill(masks, place, left, scores)
            bits = ((masks[:, :, None] >> torch.arange(32)) & 1).flatten(1)[:, :size]
            assert torch.equal(bits[0], bits[1]), text
            allowed = bits[0].nonzero().flatten().tolist()
            token = rng.choice([one for one in allowed if one not in ends] or allowed)
            for row in rows:
                row.accept(token, ends)
            if token in ends:
                break
            text += tokens.texts[token]
        assert rows[0].ended
        assert fits(json.loads(text), LENGTHS[name])


def test_many_tokens_leave_less_room() -> None:
    assert room(random_model(real=False)) > 1000
