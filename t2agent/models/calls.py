"""Calls of tools as a model writes them: their format, their tokens, replies to learn, and replies
as rewards read them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from t2agent.models.decoding import end_token, end_tokens
from t2agent.models.likelihood import answer_tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, open_thoughts, reply_tokens, tool_format
from t2agent.replies.format import ToolFormat
from t2agent.replies.parsing import ReplyParser
from t2agent.tasks.rewards.fields import makes_calls
from t2agent.tasks.task import Example


def reply_format(model: T2Model) -> ToolFormat:
    """How the model writes calls, as far as it shows in a reply's text."""
    return tool_format(model).without_end(list(_ends(model).values()))


def call_marks(model: T2Model) -> frozenset[int]:
    """The special tokens that belong to calls and so to the text of a reply: what `generate`
    takes as ``keep`` where tools are on offer."""
    written = reply_format(model).write([("a", {"b": "c"}), ("d", {})])
    return frozenset(
        number
        for number, token in model.tokenizer.added_tokens_decoder.items()
        if token.special and token.content in written
    )


def judged_marks(model: T2Model, examples: Sequence[Example]) -> frozenset[int]:
    """`call_marks` for replies to these examples that are to be judged; none without tools."""
    return call_marks(model) if any(example.tools for example in examples) else frozenset()


def wanted_tokens(model: T2Model, example: Example, reply: str = "") -> tuple[int, ...]:
    """The tokens of the reply that is wanted, with the one that ends it.

    It is ``reply``, else the example's calls, after its answer where it has one, else the answer.
    Calls are written in the model's own format, as `t2agent.ChatT2` reads them: after the end of
    the thoughts where the prompt begins some. Where the model's format holds one call a reply, the
    first is wanted: ChatT2 shows such models several calls as so many turns.

    Raises ConfigError as `end_token`, and for a conversation that the chat template refuses.
    """
    if reply or not example.calls:
        return answer_tokens(model, reply or example.answer)
    form = reply_format(model)
    calls = [(call["name"], call["arguments"]) for call in example.calls]
    thoughts = open_thoughts(model, Prompt.of(example))
    tokens = reply_tokens(
        model,
        example.answer,
        calls if form.parallel else calls[:1],
        form,
        before=f"{thoughts}\n\n" if thoughts else "",
    )
    return (*tokens, _end_of_calls(model))


def _end_of_calls(model: T2Model) -> int:
    """The token that ends a reply with calls, which may be another than that of an answer."""
    whole = tool_format(model)
    ended = (number for number, end in _ends(model).items() if whole.without_end([end]) != whole)
    return next(ended, None) or end_token(model)


def _ends(model: T2Model) -> dict[int, str]:
    """The tokens that end replies, and their texts."""
    numbers = sorted(end_tokens(model))
    spelled = model.tokenizer.convert_ids_to_tokens(numbers)
    return dict(zip(numbers, map(str, spelled), strict=True))


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
