"""ChatT2.invoke against transformers' own generate() of the same tokens, on the same input.

Figure wanted: at most 1.03 times the time, for 100 tokens. The rest is the chat template, the
tokenizer, LangChain's callbacks and what watches each step. Both take turns. A busy machine makes
wall-clock ratios noisy: `cpu_ratio` is of the processor time that this process spent.

`rows_throughput` is of sixteen different requests: ChatT2.batch against generate() of the same
sixteen rows, encoded and decoded; wanted: at least .97 of its throughput, by processor time.

`dispatched_ratio` has the first pass in it as well: a request that is dispatched to an expert,
against generate() with that expert adapted. What one expert costs is in `expert_overhead`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from langchain_core.language_models import LanguageModelInput

from t2agent.bench.datasets import TOKENIZER
from t2agent.bench.shapes import clock, endless, qwen2_with_tokenizer, ratio
from t2agent.chat.chat_model import ChatT2
from t2agent.models.generate import Prompt, encode
from t2agent.models.model import T2Model

REQUEST = "What is 7 * 3 + 12?"
ROWS = 16


def run(
    tokens: int = 100, repeats: int = 20, large_repeats: int = 5, tokenizer: Path | str = TOKENIZER
) -> dict[str, Any]:
    """Medians of the ratios: t2-nano as shipped, smollm2, and a random model of Qwen2-0.5B's shape.

    Args:
        tokens: of each reply; the end of it is switched off.
        repeats: pairs of calls to t2-nano.
        large_repeats: pairs of calls to the other models.
        tokenizer: the folder of Qwen2's.

    Raises:
        ConfigError: the tokenizer or smollm2 is not there.
    """
    large = qwen2_with_tokenizer(tokenizer)
    nano = measure(T2Model.from_pretrained("t2-nano"), tokens, repeats, dispatched=True)
    real = measure(T2Model.from_pretrained("smollm2"), tokens, large_repeats)
    return {"nano": nano, "smollm2": real, "qwen2": measure(large, tokens, large_repeats)}


def measure(
    model: T2Model, tokens: int, repeats: int, *, dispatched: bool = False
) -> dict[str, float]:
    """Seconds and ratios for one model; also of a dispatched request, if wanted."""
    endless(model)
    result = _compared(model, ChatT2(model, dispatch="off", max_tokens=tokens), tokens, repeats)
    figures = {"threads": torch.get_num_threads(), "tokens": tokens, **result}
    figures["rows_throughput"] = rows(model, tokens, max(1, repeats // 4))
    if dispatched:
        chat = ChatT2(model, max_tokens=tokens)
        chat.engine.merging = False  # both sides adapt alike
        figures["dispatched_ratio"] = _compared(model, chat, tokens, repeats)["ratio"]
    return figures


def rows(model: T2Model, tokens: int, repeats: int) -> float:
    """The throughput of ChatT2.batch of sixteen requests, as a part of that of generate()."""
    chat = ChatT2(model, dispatch="off", max_tokens=tokens)
    asked: list[LanguageModelInput] = [f"What is {n} * 3 + 12?" for n in range(ROWS)]
    prompts = [Prompt.user(str(request)) for request in asked]

    def raw() -> list[str]:
        inputs = encode(model, prompts)
        ids = model.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        replies: list[str] = model.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        return replies

    def through() -> list[str]:
        return [str(reply.content) for reply in chat.batch(asked)]

    (_, raw_cpu), (_, chat_cpu) = _in_turn(raw, through, repeats)
    return ratio(raw_cpu, chat_cpu)


def _compared(model: T2Model, chat: ChatT2, tokens: int, repeats: int) -> dict[str, float]:
    reply = chat.invoke(REQUEST)
    mixture = reply.response_metadata["dispatch"]["mixture"]["weights"]
    inputs = encode(model, [Prompt.user(REQUEST)])

    def raw() -> str:
        with model.adapted(mixture) if mixture else nullcontext():
            ids = model.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        text: str = model.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :])
        return text

    def through() -> str:
        return str(chat.invoke(REQUEST).content)

    (raw_wall, raw_cpu), (chat_wall, chat_cpu) = _in_turn(raw, through, repeats)
    return {
        "raw_ms": 1e3 * median(raw_wall),
        "chat_ms": 1e3 * median(chat_wall),
        "ratio": ratio(chat_wall, raw_wall),
        "cpu_ratio": ratio(chat_cpu, raw_cpu),
    }


def _in_turn(
    raw: Callable[[], object], through: Callable[[], object], repeats: int
) -> tuple[tuple[Sequence[float], Sequence[float]], ...]:
    """Of each of the two the seconds on the clock, and those of the processor."""
    raw(), through()  # what is made on first use
    times: tuple[list[tuple[float, float]], ...] = ([], [])
    for turn in range(repeats):
        for work, own in list(zip((raw, through), times, strict=True))[:: 1 if turn % 2 else -1]:
            cpu = time.process_time()
            own.append((clock(work), time.process_time() - cpu))
    (raw_wall, raw_cpu), (chat_wall, chat_cpu) = (zip(*own, strict=True) for own in times)
    return (raw_wall, raw_cpu), (chat_wall, chat_cpu)
