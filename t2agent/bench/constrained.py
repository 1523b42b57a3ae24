"""Constrained decoding at a vocabulary of 151,936 entries, against free decoding of the same model.

Figure wanted: at most 1.15 times the time of a token. The model is random, of Qwen2-0.5B's shape,
with Qwen2's own tokenizer. Three constraints: JSON by a schema, a call that must come, and text in
which calls may come. Each takes turns with free decoding after the same prompt. Grammars are
compiled before: that happens once for a schema.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from t2agent.bench.datasets import TOKENIZER
from t2agent.bench.shapes import qwen2_with_tokenizer, ratio
from t2agent.engine.reply_form import ReplyForm
from t2agent.models.generate import Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions

REQUEST = "List the cities of the country, with how many people live in each."
_CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "people": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "people", "tags"],
}
_CITIES = {"type": "array", "items": _CITY, "minItems": 3}
_SCHEMA = {"type": "object", "properties": {"cities": _CITIES}, "required": ["cities"]}
_TOOLS = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": _SCHEMA}}
    for name, about in (("store", "Stores cities."), ("draw", "Draws cities on a map."))
]
FORMS: Mapping[str, Mapping[str, Any]] = {
    "json": {"response_format": {"type": "json_schema", "json_schema": {"schema": _SCHEMA}}},
    "call": {"tools": _TOOLS, "tool_choice": "any"},
    "auto": {"tools": _TOOLS},
}


def run(tokens: int = 100, repeats: int = 5, tokenizer: Path | str = TOKENIZER) -> dict[str, Any]:
    """Milliseconds a token, and medians of the ratios; "ratio" is the greatest of them.

    Args:
        tokens: of each reply at most.
        repeats: pairs of a constrained and a free reply, of each form.
        tokenizer: the folder of Qwen2's.

    Raises:
        ConfigError: the tokenizer is not there.
    """
    return measure(qwen2_with_tokenizer(tokenizer), tokens, repeats)


def measure(model: T2Model, tokens: int, repeats: int) -> dict[str, Any]:
    """The same for any model."""
    found: dict[str, Any] = {}
    for name, given in FORMS.items():
        form = ReplyForm.of(given)
        prompt = form.prompt(Prompt.user(REQUEST))
        _milliseconds(model, form, prompt, 2)  # what is compiled and made on first use
        free, held = [], []
        for _ in range(repeats):
            free.append(_milliseconds(model, None, prompt, tokens))
            held.append(_milliseconds(model, form, prompt, tokens))
        free_wall, free_cpu = zip(*free, strict=True)
        held_wall, held_cpu = zip(*held, strict=True)
        found[name] = {
            "free_ms": median(free_wall),
            "constrained_ms": median(held_wall),
            "ratio": ratio(held_wall, free_wall),
            "cpu_ratio": ratio(held_cpu, free_cpu),
        }
    return {
        "threads": torch.get_num_threads(),
        "vocabulary": model.model.config.get_text_config().vocab_size,
        **found,
        "ratio": max(figures["ratio"] for figures in found.values()),
    }


def _milliseconds(
    model: T2Model, form: ReplyForm | None, prompt: Prompt, tokens: int
) -> tuple[float, float]:
    """Of one token of a reply: by the clock, and of processor time."""
    constraint = None if form is None else form.constraint(model, prompt)
    keep = frozenset[int]() if form is None else form.marks(model)
    options = GenerationOptions(max_tokens=tokens, temperature=1.0, seed=0)
    wall, cpu = time.perf_counter(), time.process_time()
    [reply] = generate(model, [prompt], options, constraints=[constraint], keep=keep)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return 1e3 * wall / reply.completion_tokens, 1e3 * cpu / reply.completion_tokens
