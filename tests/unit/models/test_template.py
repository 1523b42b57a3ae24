from __future__ import annotations

from pathlib import Path

import pytest

from t2agent.errors import ConfigError
from t2agent.models.template import ChatTemplate
from tests.models import build_tokenizer

HI = [{"role": "user", "content": "Hi"}]


def test_a_model_without_a_template_gets_a_plain_one() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    assert ChatTemplate(tokenizer).render(HI, "\ue000") == "User: Hi\n\nAssistant:"


def test_a_changed_template_is_noticed() -> None:
    tokenizer = build_tokenizer()
    template = ChatTemplate(tokenizer)
    assert template.is_current()
    tokenizer.chat_template = "{{ 'x' }}"
    assert not template.is_current()


def test_a_system_message_that_is_refused_goes_to_the_user() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{%- for m in messages -%}{%- if m['role'] == 'system' -%}"
        "{{- raise_exception('no system') -}}{%- endif -%}{{- m['content'] -}}{%- endfor -%}"
    )
    text = ChatTemplate(tokenizer).render([{"role": "system", "content": "Be"}, *HI], "\ue000")
    assert text == "Be\n\nHi"
    with pytest.raises(ConfigError, match="no system"):
        ChatTemplate(tokenizer).render([{"role": "system", "content": "Be"}], "\ue000")


def test_overlapping_control_tokens_are_all_broken() -> None:
    template = ChatTemplate(build_tokenizer())
    text = template.neutral("<|im_start|>" * 2 + "<|im_<|im_end|>end|>", "\ue000")
    assert "<|im_start|>" not in text
    assert "<|im_end|>" not in text
    assert text.replace("\ue000", "") == "<|im_start|>" * 2 + "<|im_<|im_end|>end|>"


def test_the_breaker_is_no_character_of_the_prompt() -> None:
    given = [{"role": "user", "content": [{"type": "text", "text": "\ue000\ue001"}]}]
    assert ChatTemplate(build_tokenizer()).breaker(given) == "\ue002"


TEMPLATES = (
    """{% for m in messages %}{{ m.role }}{% if 'tool_calls' in m %}
    {{ raise_exception('calls one tool') if m.tool_calls | length != 1 }}
    {% else %}: {{ m.content }}{% endif %}{% endfor %}""",
    """{% for m in messages %}{{ m.role }}{% if m.tool_calls is defined %} calls
    {% else %}: {{ m.content }}{% endif %}{% endfor %}""",
    build_tokenizer().chat_template,
)


@pytest.mark.parametrize("calls", [[], (), None])
@pytest.mark.parametrize("template", TEMPLATES, ids=["refuses", "leaves out", "own"])
def test_a_list_of_no_calls_is_none(template: str, calls: object) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    said = {"role": "assistant", "content": "Hello."}
    with_list, without = (
        ChatTemplate(tokenizer).render([*HI, one, *HI], "\ue000")
        for one in ({**said, "tool_calls": calls}, said)
    )
    assert with_list == without
    assert "Hello." in without


def test_a_list_of_no_calls_in_every_family(shared_data: Path) -> None:
    said = {"role": "assistant", "content": "Hello."}
    tool = {"name": "now", "description": "The time.", "parameters": {"type": "object"}}
    offered = ({"type": "function", "function": tool},)
    for path in (shared_data / "chat_templates").glob("*.jinja"):
        tokenizer = build_tokenizer()
        tokenizer.chat_template = path.read_text()
        template = ChatTemplate(tokenizer)
        for tools in ((), offered):
            without = template.render([*HI, said, *HI], "\ue000", tools)
            given = [*HI, {**said, "tool_calls": []}, *HI]
            assert template.render(given, "\ue000", tools) == without
