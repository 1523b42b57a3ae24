from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.replies.format import GENERAL, CallId, Parameters, ToolFormat
from t2agent.replies.parsing import CallPiece, Piece, ReplyParser

MISTRAL = ToolFormat(
    before="[TOOL_CALLS][", begin='{"name": "', between='", "arguments": ', end='"}',
    separator=", ", after="]", number=CallId(', "id": "', 9),
)  # fmt: skip
KIMI = ToolFormat(
    before="<|calls|>", begin="<|call|>functions.", between="<|args|>", end="<|end|>",
    after="<|/calls|>", number=CallId(":", 0, after_name=True),
)  # fmt: skip
XML = ToolFormat(
    begin="<tool_call>\n<function=", between=">\n", end="</function>\n</tool_call>",
    separator="\n", parameters=Parameters("<parameter=", ">\n", "\n</parameter>\n"),
)  # fmt: skip
SEPARATED = ToolFormat(
    begin="<call>", between="(", end=")</call>", separator="\n",
    parameters=Parameters("<p k=", ">", "</p>", ", "),
)  # fmt: skip
LLAMA = ToolFormat(
    begin='{"name": "', between='", "parameters": ', end="}", parallel=False
)  # fmt: skip
FORMATS = {
    "general": GENERAL, "mistral": MISTRAL, "kimi": KIMI, "xml": XML, "separated": SEPARATED,
    "llama": LLAMA,
}  # fmt: skip


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [
    tool("add", a={"type": "number"}, b={"type": "string"}, c={"type": "object"}),
    tool("add_all", a={"type": "array", "items": {}}, b={"type": "string"}),
    tool("größe"),
]
NAMES = [one["function"]["name"] for one in TOOLS]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>[]{"), max_size=12)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={"b": TEXTS.map(lambda text: "x" + text.strip() + "x")},
)


def read(
    form: ToolFormat, pieces: list[str], tools: Any = TOOLS
) -> tuple[ReplyParser, list[Piece]]:
    parser = ReplyParser(form, tools)
    found = [one for piece in pieces for one in parser.push(piece)]
    return parser, found + parser.finish()


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def state(parser: ReplyParser) -> Any:
    return parser.content, [(c.name, c.arguments, c.complete) for c in parser.calls]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
@given(data=st.data())
def test_what_a_format_writes_is_read_however_it_is_cut(form: ToolFormat, data: Any) -> None:
    count = 3 if form.parallel else 1
    given_calls = st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=count)
    calls = data.draw(given_calls)
    said = data.draw(TEXTS).strip()
    text = said + ("\n" if said else "") + form.write(calls)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=30))
    parser, pieces = read(form, cut(text, places))
    assert [(call.name, call.parsed()) for call in parser.calls] == calls
    assert parser.content == said
    assert "".join(one for one in pieces if isinstance(one, str)) == said
    for index, call in enumerate(parser.calls):
        own = [one for one in pieces if isinstance(one, CallPiece) and one.index == index]
        assert [one.name for one in own if one.name is not None] == [call.name]
        assert own[0].name == call.name
        assert "".join(one.arguments for one in own) == call.arguments


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
@given(data=st.data())
def test_any_text_is_read_the_same_however_it_is_cut(form: ToolFormat, data: Any) -> None:
    """Calls that are cut short, broken, nested in text: no error, and no difference."""
    whole = form.write([("add", {"a": 1, "b": "<x>"}), ("add_all", {"a": [1, {"b": "]"}]})])
    marks = st.sampled_from(
        [form.opening, form.end, form.between, "add", "{", "}", '"', "\n", "a<"]
    )
    parts = data.draw(st.lists(st.one_of(marks, st.just(whole), st.text(max_size=4)), max_size=6))
    text = "".join(parts)
    text = text[: data.draw(st.integers(0, len(text)))]
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=20))
    parser, pieces = read(form, cut(text, places))
    assert state(parser) == state(read(form, [text])[0])
    assert "".join(one for one in pieces if isinstance(one, str)) == parser.content
    for call in parser.calls:
        if not call.complete:  # whoever adds up the pieces must see it, too
            with pytest.raises(ValueError, match=r"."):
                json.loads(call.arguments)


def test_values_have_the_types_of_their_schema() -> None:
    text = XML.write([("add", {"a": 1.5, "b": "7", "c": {"d": [True, None]}})])
    assert read(XML, [text])[0].calls[0].parsed() == {"a": 1.5, "b": "7", "c": {"d": [True, None]}}


def test_a_call_of_an_unknown_tool_is_text() -> None:
    text = "See: " + GENERAL.write([("rm", {})])
    parser, _ = read(GENERAL, list(text))
    assert parser.content == text
    assert not parser.calls
    known, _ = read(GENERAL, [text], None)
    assert [call.name for call in known.calls] == ["rm"]


def test_a_name_that_begins_another() -> None:
    for name in ("add", "add_all"):
        parser, _ = read(GENERAL, list(GENERAL.write([(name, {})])))
        assert [call.name for call in parser.calls] == [name]


@pytest.mark.parametrize("size", range(len("<tool_call>\n{") + 1, 60))
def test_a_call_cut_short_is_never_whole(size: int) -> None:
    text = GENERAL.write([("add", {"a": 12, "b": 'quo"te\\'})])[:size]
    parser, _ = read(GENERAL, list(text))
    assert all(call.parsed() is None for call in parser.calls)
    assert all(call.name in NAMES or text.endswith(call.name) for call in parser.calls)


def test_the_name_of_a_call_cut_short_is_the_tools() -> None:
    text = GENERAL.write([("add", {})])
    parser, _ = read(GENERAL, [text[: text.index("arg")]])
    assert [call.name for call in parser.calls] == ["add"]


def test_text_after_calls() -> None:
    parser, _ = read(MISTRAL, list(MISTRAL.write([("add", {}), ("add", {})]) + " Done."))
    assert len(parser.calls) == 2
    assert parser.content.strip() == "Done."
