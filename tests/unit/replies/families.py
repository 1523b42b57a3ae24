"""Small chat templates in the manner of many model families, and models to render them with.

None is a copy: each shows how its family writes tools, calls and results, in as few words as do.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from t2agent.models.model import T2Model
from tests.models import build_tokenizer

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"

_ARGUMENTS = "{{ c.function.arguments | tojson }}"
_TEXT_ARGUMENTS = "{{ '' + c.function.arguments }}"  # refuses arguments that are no text
_JSON_TOOLS = "<tools>{{ tools | tojson }}</tools>"
_XML = (
    "{% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n"
    "{% endfor %}"
)


def family(
    calls: str,
    *,
    turn: str = "<|im_start|>ROLE\n",
    end: str = "<|im_end|>\n",
    tools: str = _JSON_TOOLS,
    result: str = "<tool_response>{{ m.content }}</tool_response>",
    before: str = "",
    after: str = "",
    between: str = "",
    thoughts: str = "",
    call_end: str | None = None,
    start: str = "",
) -> str:
    """A chat template; ``calls`` writes one call ``c``, between ``before`` and ``after``."""
    named = turn.replace("ROLE", "{{ m.role }}")
    other = f"{{{{ {between!r} if not loop.last else '' }}}}"
    return (
        f"{start}{{% if tools %}}{turn.replace('ROLE', 'system')}{tools}{end}{{% endif %}}"
        "{% for m in messages %}"
        f"{{% if m.role == 'tool' %}}{turn.replace('ROLE', 'tool')}{result}{end}"
        f"{{% elif m.tool_calls %}}{named}{{{{ m.content }}}}{before}"
        f"{{% for c in m.tool_calls %}}{calls}{other}{{% endfor %}}{after}{call_end or end}"
        f"{{% else %}}{named}{{{{ m.content }}}}{end}{{% endif %}}"
        "{% endfor %}{% if add_generation_prompt %}"
        f"{turn.replace('ROLE', 'assistant')}{thoughts}{{% endif %}}"
    )


FAMILIES: Mapping[str, str] = {
    "qwen3-coder": family(
        "<tool_call>\n<function={{ c.function.name }}>\n" + _XML + "</function>\n</tool_call>",
        before="\n",
        between="\n",
    ),
    "seed-oss": family(  # it writes what is no string as Python does
        "\n<seed:tool_call>\n<function={{ c.function.name }}>\n"
        "{% for k, v in c.function.arguments | items %}<parameter={{ k }}>{{ v | string }}"
        "</parameter>\n{% endfor %}</function>\n</seed:tool_call>",
        turn="<seed:bos>ROLE\n",
        end="<seed:eos>",
    ),
    "glm-4.5": family(
        "<tool_call>{{ c.function.name }}\n{% for k, v in c.function.arguments | items %}"
        "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v if v is string else v | tojson }}"
        "</arg_value>\n{% endfor %}</tool_call>",
        turn="<|ROLE|>\n",
        end="",
        before="\n",
        between="\n",
        start="[gMASK]<sop>",
    ),
    "minimax-m2": family(
        '<invoke name="{{ c.function.name }}">\n{% for k, v in c.function.arguments | items %}'
        '<parameter name="{{ k }}">{{ v if v is string else v | tojson }}</parameter>\n'
        "{% endfor %}</invoke>\n",
        turn="]~b]ROLE\n",
        end="[e~[\n",
        before="\n<minimax:tool_call>\n",
        after="</minimax:tool_call>",
        thoughts="<think>\n",
    ),
    "command-r-plus": family(
        '    {\n        "tool_name": "{{ c.function.name }}",\n        "parameters": '
        "{{ c.function.arguments | tojson(indent=4) | indent(8) }}\n    }",
        turn="<|START_OF_TURN_TOKEN|><|ROLE_TOKEN|>",
        end="<|END_OF_TURN_TOKEN|>",
        tools="{% for t in tools %}def {{ t.function.name }}: {{ '' + t.function.description }}"
        "{% for k, v in t.function.parameters.properties | items %}{{ k + v.description }}"
        "{% endfor %}{% endfor %}",
        before="\nAction:\n```json\n[\n",
        after="\n]```\n",
        between=",\n",
        call_end="\n",
    ),
    "command-r7b": family(  # the number of the call is before its name
        '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ c.function.name }}", '
        '"parameters": ' + _ARGUMENTS + "}",
        before="<|START_ACTION|>[\n",
        after="\n]<|END_ACTION|>",
        between=",\n",
    ),
    "llama-4": family(  # Python
        "{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}="
        "{{ v | tojson }}{% endfor %})",
        turn="<|header_start|>ROLE<|header_end|>\n\n",
        end="<|eot|>",
        before="<|python_start|>[",
        after="]<|python_end|>",
        call_end="<|eom|>",
    ),
    "kimi-k2": family(
        "<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>" + _ARGUMENTS
        + "<|tool_call_end|>",
        turn="<|im_ROLE|>ROLE<|im_middle|>",
        end="<|im_end|>",
        result="## Return of {{ m.tool_call_id }}\n{{ m.content }}",
        before="<|tool_calls_section_begin|>",
        after="<|tool_calls_section_end|>",
    ),
    "gpt-oss": (
        "{% if tools %}<|start|>developer<|message|>{{ tools | tojson }}<|end|>{% endif %}"
        "{% set last = namespace(name=none) %}{% for m in messages %}{% if m.role == 'tool' %}"
        "{% if last.name is none %}{{ raise_exception('no call') }}{% endif %}<|start|>functions."
        "{{ last.name }} to=assistant<|channel|>commentary<|message|>{{ m.content | tojson }}"
        "<|end|>{% elif m.tool_calls %}{% set c = m.tool_calls[0] %}<|start|>assistant to="
        "functions.{{ c.function.name }}<|channel|>commentary json<|message|>" + _ARGUMENTS
        + "<|call|>{% set last.name = c.function.name %}{% elif m.role == 'assistant' %}<|start|>"
        "assistant<|channel|>final<|message|>{{ m.content }}<|return|>{% else %}<|start|>"
        "{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    "functionary-3.1": family(
        "<function={{ c.function.name }}>" + _TEXT_ARGUMENTS + "</function>",
        turn="<|start_header_id|>ROLE<|end_header_id|>\n\n",
        end="<|eot_id|>",
        call_end="<|eom_id|>",
        start="{% set code = tools | selectattr('type', 'equalto', 'x') | list %}",
    ),
    "functionary-3.2": family(  # nothing before the name that the prompt does not hold
        ">>>{{ c.function.name }}\n" + _TEXT_ARGUMENTS, thoughts=">>>", end="<|eot_id|>"
    ).replace("{% else %}", "{% else %}{% set all = '>>>all\n' if m.role == 'assistant' else '' %}")
    .replace("{{ m.content }}<|eot_id|>{% endif", "{{ all + m.content }}<|eot_id|>{% endif"),
    "firefunction": family(  # it wants the tools as text, and the date
        '{"name": "{{ c.function.name }}", "arguments": ' + _TEXT_ARGUMENTS + "}",
        start="{{ 'Functions: ' + functions + ' Today: ' + datetime }}",
        tools="",
        before=" functools[",
        after="]",
        between=", ",
    ),
    "mistral-small": family(  # of an id it writes the last nine characters
        "{% if c.id | length < 9 %}{{ raise_exception('id') }}{% endif %}"
        '{{ (c.function | tojson)[:-1] }}, "id": "{{ c.id[-9:] }}"}',
        turn="[ROLE]",
        end="[/ROLE]",
        before="[TOOL_CALLS] [",
        after="]",
        between=", ",
        result='{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id[-9:] }}"}',
    ),
    "apertus": family(
        '{"{{ c.function.name }}": ' + _ARGUMENTS + "}",
        before="<|tools_prefix|>[",
        after="]<|tools_suffix|>",
        between=", ",
    ),
    "phi-4-mini": family(
        "<|tool_call|>{{ c.function | tojson }}<|/tool_call|>", turn="<|ROLE|>", end="<|end|>"
    ),
    "parts": family(  # contents as lists, and a result's list as Python writes it
        "<tool_call>\n{{ c.function | tojson }}\n</tool_call>", between="\n"
    ).replace(
        "{{ m.content }}<|im_end|>",
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
        "{% endif %}<|im_end|>",
    ),
    "gemma-4": family(  # a notation of its own
        "<|tool_call>call:{{ c.function.name + '{' }}{% for k, v in c.function.arguments | items %}"
        "{{ k }}:<|\"|>{{ v }}<|\"|>{% endfor %}{{ '}' }}<tool_call|>"
    ),
    "without-tools": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "alternating": (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('user and assistant in turn') }}{% endif %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system') }}{% endif %}[{{ m.role }}] {{ m.content | trim }}\n"
        "{% endfor %}[assistant]"
    ),
    "headers": (
        "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
        "{% elif m.role == 'assistant' %}### Response:\n{{ m.content }}\n\n{% endif %}"
        "{% endfor %}### Response:\n"
    ),
    "silent": "Hello",
}  # fmt: skip


def given_templates() -> dict[str, str]:
    """The real templates of ten families; none where the shared data is not there."""
    paths = sorted((SHARED / "chat_templates").glob("*.jinja"))
    return {path.stem: path.read_text() for path in paths}


def all_templates() -> dict[str, str]:
    """The real ones and `FAMILIES`."""
    return {**given_templates(), **FAMILIES}


@functools.cache
def random_model(real: bool = True) -> T2Model:
    """Random weights with the real Qwen2 tokenizer, or a byte-level one of 400 entries.

    Shared: a test sets the chat template that it wants, on `model.tokenizer`.
    """
    folder = SHARED / "tokenizers" / "qwen2"
    if real and not folder.is_dir():
        pytest.skip("the shared tokenizer is not beside the repository")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder) if real else build_tokenizer()
    size = 151_936 if real else len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=8192,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        torch.nn.init.normal_(model.model.embed_tokens.weight)
        torch.nn.init.normal_(model.lm_head.weight)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    return T2Model(model, tokenizer, name="random")


def model_with(template: str, *, real: bool = True) -> T2Model:
    """`random_model` with a chat template."""
    model = random_model(real)
    model.tokenizer.chat_template = template
    return model
