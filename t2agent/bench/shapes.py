"""A random model with the shape of Qwen2-0.5B, and measured rates of the machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Cache, DynamicCache, Qwen2Config, Qwen2ForCausalLM

from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.models.model import T2Model


class Tokens:
    """Stands for the tokenizer that these token-id benchmarks do not need."""

    model_max_length = 32768


def qwen2(dtype: torch.dtype = torch.bfloat16, tokenizer: Any = None) -> T2Model:
    """Random weights, hidden 896, 24 layers, 14 heads, 2 key-value heads, ffn 4864, tied."""
    config = Qwen2Config(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        vocab_size=151936,
        tie_word_embeddings=True,
        dtype=dtype,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return T2Model(model, tokenizer or Tokens(), name="qwen2-0.5b-shaped")


def qwen2_with_tokenizer(folder: Path | str) -> T2Model:
    """`qwen2` with the tokenizer and chat template of a folder.

    Raises:
        ConfigError: it is not there.
    """
    if not Path(folder).is_dir():
        raise ConfigError(
            f"Qwen2's tokenizer is not in {folder}, and does not ship with t2agent: give its "
            "folder (t2agent bench NAME --set tokenizer=FOLDER)"
        )
    model = qwen2(tokenizer=AutoTokenizer.from_pretrained(folder))
    model.model.generation_config.eos_token_id = model.tokenizer.eos_token_id
    return model


def endless(model: T2Model) -> None:
    """Let no reply of this model end before its last token."""
    padding = model.tokenizer.pad_token_id
    model.model.generation_config.update(eos_token_id=[padding], pad_token_id=padding)


def expert(model: T2Model, seed: int, directions: int | None = None) -> Expert:
    """Random vectors of the size that training gives, of all directions or the first."""
    generator = torch.Generator().manual_seed(seed)
    z = {n: 1 + 0.1 * torch.randn(r, generator=generator) for n, r in model.shapes.items()}
    for one in z.values():
        one[len(one) if directions is None else directions :] = 1
    return Expert(ExpertCard(f"expert-{seed}"), z)


def clock(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios of what was timed in turn."""
    return median(a / b for a, b in zip(over, under, strict=True))


@contextmanager
def private_cache() -> Iterator[None]:
    """A cache of bases of its own, so that the user's stays as it is."""
    before = os.environ.get("T2AGENT_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["T2AGENT_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["T2AGENT_HOME"]
            else:
                os.environ["T2AGENT_HOME"] = before


def decode(
    model: T2Model, batch: int, tokens: int, started: tuple[Tensor, Cache] | None = None
) -> tuple[Tensor, Cache]:
    """Greedy decoding of `tokens` tokens a row, from a prompt of 16 or where it was left."""
    with torch.no_grad():
        if started is None:
            ids = torch.arange(16).repeat(batch, 1)
            cache: Cache = DynamicCache(config=model.model.config)
        else:
            ids, cache = started
        for _ in range(tokens):
            logits = model.model(input_ids=ids, past_key_values=cache, logits_to_keep=1).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
    return ids, cache
