"""Calls of tools in the text of a reply, by the model's own format."""

from __future__ import annotations

import json
from collections.abc import Sequence

from t2agent.models.decoding import end_tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import tool_format
from t2agent.replies.format import ToolFormat
from t2agent.replies.parsing import ReplyParser
from t2agent.tasks.rewards.fields import makes_calls
from t2agent.tasks.task import Example


def reply_format(model: T2Model) -> ToolFormat:
    """How the model writes calls, as far as it shows in a reply's text."""
    ends = model.tokenizer.convert_ids_to_tokens(sorted(end_tokens(model)))
    return tool_format(model).without_end([str(end) for end in ends])


def marks_of(model: T2Model) -> frozenset[int]:
    """The special tokens that belong to calls and so to the text of a reply."""
    written = reply_format(model).write([("a", {"b": "c"}), ("d", {})])
    return frozenset(
        number
        for number, token in model.tokenizer.added_tokens_decoder.items()
        if token.special and token.content in written
    )


def call_marks(model: T2Model, examples: Sequence[Example]) -> frozenset[int]:
    """`marks_of` a model whose replies to these examples are judged; none without tools."""
    return marks_of(model) if any(example.tools for example in examples) else frozenset()


def readable(model: T2Model, example: Example, text: str) -> str:
    """A reply as rewards read it: where it calls one of the example's tools in the model's format,
    the calls alone, a JSON list of {"name": ..., "arguments": {...}}; else the text as it is.

    ``arguments`` is null for a call that was cut short, or whose arguments are no JSON object. A
    text that is such a list itself is no call, since nothing would run it: the word "text" is put
    before it, so that no reward takes it for one.
    """
    if not example.tools:
        return text
    parser = ReplyParser(reply_format(model), example.tools)
    parser.push(text)
    parser.finish()
    if not parser.calls:
        return f"text: {text}" if makes_calls(text) else text
    calls = [{"name": call.name, "arguments": call.parsed()} for call in parser.calls]
    return json.dumps(calls, ensure_ascii=False)
