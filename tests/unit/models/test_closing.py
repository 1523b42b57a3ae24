from __future__ import annotations

import json

import pytest
import xgrammar
from hypothesis import given
from hypothesis import strategies as st

from t2agent.models.closing import Guard, Speller, ending, free
from t2agent.models.compiling import Tokens, compiled
from t2agent.replies.constraint import json_constraint, tools_constraint
from t2agent.replies.format import ToolFormat
from t2agent.replies.parsing import ReplyParser
from tests.unit.replies.families import FAMILIES, model_with, random_model

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
    "required": ["a", "b"],
}
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": SCHEMA}}
WHOLE = '{"a": "x, } ] \\" é", "b": [1, 22, -3]}'


@pytest.mark.parametrize("size", range(len(WHOLE) + 1))
def test_json_is_closed_from_anywhere(size: int) -> None:
    matcher = xgrammar.GrammarMatcher(compiled(random_model(False), json_constraint(SCHEMA)))
    assert matcher.accept_string(WHOLE[:size])
    end = ending(matcher, ())
    assert end is not None
    assert set(json.loads(WHOLE[:size] + end.decode())) == {"a", "b"}
    assert matcher.accept_string(end)
    assert matcher.is_completed()


def test_a_number_that_may_end_is_not_made_longer() -> None:
    """The share's rests are a number's tails, too."""
    share = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    properties = {"any": {}, "share": share}
    held = json_constraint({"type": "object", "properties": properties, "required": [*properties]})
    matcher = xgrammar.GrammarMatcher(compiled(random_model(False), held))
    assert matcher.accept_string('{"any":1')
    end = ending(matcher, (), tuple(tail.encode() for tail in held.tails))
    assert end is not None
    assert len(end) < 20, end


@pytest.mark.parametrize("family", ["apertus", "command-r-plus", "qwen3-coder", "minimax-m2"])
def test_calls_are_closed_from_anywhere(family: str) -> None:
    model = model_with(FAMILIES[family], real=False)
    from t2agent.models.prompt import tool_format

    form: ToolFormat = tool_format(model)
    held = tools_constraint(form, [TOOL], choice="required")
    grammar = compiled(model, held)
    marks = [mark.encode() for mark in held.marks]
    whole = form.write([("f", {"a": "x < y", "b": [1]}), ("f", {"a": "", "b": []})])
    for size in range(0, len(whole) + 1, 3):
        matcher = xgrammar.GrammarMatcher(grammar)
        assert matcher.accept_string(whole[:size]), whole[:size]
        end = ending(matcher, marks)
        assert end is not None
        parser = ReplyParser(form, [TOOL])
        parser.push(whole[:size] + end.decode())
        parser.finish()
        assert parser.calls
        assert all(call.parsed() is not None for call in parser.calls)


def test_free_text_may_end_anywhere() -> None:
    model = random_model(False)
    held = tools_constraint(ToolFormat("<c>", "(", ")</c>"), [TOOL])
    matcher = xgrammar.GrammarMatcher(compiled(model, held))
    assert free(matcher)
    assert ending(matcher, ()) == b""
    assert matcher.accept_string("text <c>f(")
    assert not free(matcher)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_text_is_spelled_in_tokens(text: str) -> None:
    tokens = Tokens.of(random_model(False))
    speller = Speller(tokens)
    rest, count = text.encode(), 0
    while rest:
        first = next(speller.first(rest))
        assert rest.startswith(tokens.texts[first])
        assert first not in tokens.special
        rest, count = rest[len(tokens.texts[first]) :], count + 1
    assert speller.count(text.encode()) == count


def test_tokens_that_would_complete_a_mark() -> None:
    tokens = Tokens.of(random_model(False))
    guard = Guard(tokens, b"the")
    assert {tokens.texts[one] for one in guard.forbidden(b"")} == {
        text for text in tokens.texts if b"the" in text
    }
    after = {tokens.texts[one] for one in guard.forbidden(b"say th")}
    assert all(text.startswith(b"e") or b"the" in text for text in after)
    assert b"e" in after
