from __future__ import annotations

import pytest

from t2agent.models.template import ChatTemplate
from t2agent.replies.format import GENERAL, CallId, ToolFormat
from t2agent.replies.inference import infer
from tests.models import build_tokenizer
from tests.unit.replies.families import FAMILIES, all_templates, given_templates

CALLS = [("clock", {"zone": "UTC", "note": "a b"}), ("now", {"x": "1"})]


def form_of(template: str) -> ToolFormat:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer).tool_format


def is_general(form: ToolFormat) -> bool:
    return (form.begin, form.between, form.end) == (GENERAL.begin, GENERAL.between, GENERAL.end)


WRITTEN = {
    "qwen3-coder": "<tool_call>\n<function=clock>\n<parameter=zone>\nUTC\n</parameter>\n"
    "<parameter=note>\na b\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n"
    "<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>",
    "glm-4.5": "<tool_call>clock\n<arg_key>zone</arg_key>\n<arg_value>UTC</arg_value>\n"
    "<arg_key>note</arg_key>\n<arg_value>a b</arg_value>\n</tool_call>\n<tool_call>now\n"
    "<arg_key>x</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.clock:0"
    '<|tool_call_argument_begin|>{"zone": "UTC", "note": "a b"}<|tool_call_end|>'
    '<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{"x": "1"}<|tool_call_end|>'
    "<|tool_calls_section_end|>",
    "apertus": '<|tools_prefix|>[{"clock": {"zone": "UTC", "note": "a b"}}, {"now": {"x": "1"}}]'
    "<|tools_suffix|>",
    "mistral-small": '[TOOL_CALLS] [{"name": "clock", "arguments": {"zone": "UTC", "note": "a b"}, '
    '"id": "000000000"}, {"name": "now", "arguments": {"x": "1"}, "id": "000000001"}]',
    "functionary-3.1": '<function=clock>{"zone": "UTC", "note": "a b"}</function>'
    '<function=now>{"x": "1"}</function><|eom_id|>',
    "minimax-m2": '<minimax:tool_call>\n<invoke name="clock">\n<parameter name="zone">UTC'
    '</parameter>\n<parameter name="note">a b</parameter>\n</invoke>\n<invoke name="now">\n'
    '<parameter name="x">1</parameter>\n</invoke>\n</minimax:tool_call>',
    "firefunction": ' functools[{"name": "clock", "arguments": {"zone": "UTC", "note": "a b"}}, '
    '{"name": "now", "arguments": {"x": "1"}}]',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_written_as_the_family_does(name: str) -> None:
    form = form_of(FAMILIES[name])
    assert form.write(CALLS) == WRITTEN[name]
    assert form.shows_calls
    assert form.parallel


@pytest.mark.parametrize("name", ["gpt-oss", "command-r7b"])
def test_one_call_at_a_time(name: str) -> None:
    form = form_of(FAMILIES[name])
    assert not form.parallel
    assert not is_general(form)
    assert form.shows_calls


@pytest.mark.parametrize(
    "name",
    ["llama-4", "gemma-4", "functionary-3.2", "without-tools", "alternating", "headers", "silent"],
)
def test_what_cannot_be_told_is_general(name: str) -> None:
    form = form_of(FAMILIES[name])
    assert is_general(form)
    assert not form.shows_calls


def test_the_given_families() -> None:
    if not given_templates():
        pytest.skip("the shared data sets are not beside the repository")
    forms = {name.split("-")[0]: form_of(text) for name, text in given_templates().items()}
    for family in ("HuggingFaceTB", "NousResearch", "Qwen", "google", "microsoft"):
        assert is_general(forms[family])  # the first three write just that
    assert forms["deepseek"].write(CALLS[1:]) == (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{"x": "1"}<｜tool▁call▁end｜>'
        "<｜tool▁calls▁end｜>"
    )
    assert (
        forms["ibm"].write(CALLS[1:]) == '<|tool_call|>[{"name": "now", "arguments": {"x": "1"}}]'
    )
    assert forms["meta"].write(CALLS[1:]) == '{"name": "now", "parameters": {"x": "1"}}'
    assert forms["mistralai"].number == CallId(', "id": "', 9)
    assert forms["mistralai"].ids == "nine"


@pytest.mark.parametrize("name", all_templates())
def test_no_id_and_no_end_of_turn_in_a_format(name: str) -> None:
    form = form_of(all_templates()[name])
    written = form.write([("a", {"b": "c"})])
    assert len(form.opening.strip()) > 2
    assert "probe" not in written
    assert "alpha" not in written
    assert not written.endswith(("<|im_end|>", "<|im_end|>\n", "<|eot_id|>", "</s>"))


def test_a_template_that_refuses_everything() -> None:
    def render(*_args: object, **_kwargs: object) -> str:
        raise ValueError("no")

    form = infer(render)
    assert is_general(form)
    assert (form.shows_tools, form.shows_calls, form.shows_results) == (False, False, False)


def test_results_are_given_as_they_are_shown() -> None:
    form = form_of(FAMILIES["parts"])
    assert form.shows_results
    assert form.text_results  # as parts, the template would write the list itself
