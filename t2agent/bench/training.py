"""What training costs: memory against its bound and its estimate, time against LoRA by PEFT, and
generation with shared prompts against repeated ones.

Any model, with requests of made-up words; rewards do not matter here. Peaks are of processes of
their own, times are processor seconds of one process in turn. Figures wanted: those of training an
expert of SmolLM2-135M on 24 conversations of 300 tokens a step (``model=...``); with t2-nano they
are small sizes of the same.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from t2agent.bench.shapes import ratio
from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt, encode
from t2agent.tasks.task import Example
from t2agent.train.adapters import Adapter, SvfAdapter
from t2agent.train.learner import Learner, Row, reply_seeds
from t2agent.train.memory import peak_bytes
from t2agent.train.options import options_for
from t2agent.train.peft import PeftAdapter
from t2agent.train.setup import frozen_base, plain_sampling, start_accelerator

_WORDS = ("red", "small", "river", "seven", "over", "house", "green", "walk", "cloud", "under")


def run(
    model: str = "t2-nano",
    conversations: int = 24,
    tokens: int = 300,
    reply: int = 60,
    samples: int = 8,
    bound: str = "2GB",
    repeats: int = 3,
) -> dict[str, Any]:
    """Ratios of processor time, and peaks of memory in GB.

    conversations: a step's, of ``tokens`` tokens with their replies of ``reply`` tokens.
    samples: of each prompt, where it is sampled; a quarter of the conversations are. bound: of the
    memory in the bounded run.
    """
    spawn = multiprocessing.get_context("spawn")
    peaks = {}
    for name, memory in (("free", None), ("bounded", bound)):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            done = pool.submit(_peak, model, conversations, tokens, reply, memory)
            peaks[name] = done.result()
    base = T2Model.from_pretrained(model)
    svf = _learner(base, lora=False, memory=None)
    lora = _learner(base, lora=True, memory=None)
    examples = requests(base, conversations, tokens - reply)
    few = examples[: max(1, conversations // 4)]
    taken: dict[str, list[float]] = {}
    with frozen_base(base.model):
        for which in range(repeats + 1):  # the first of each warms up
            for name, learner in (("svf", svf), ("lora", lora)):
                sft = _seconds(lambda learner=learner: step(learner, examples, reply))  # type: ignore[misc]
                rl = _seconds(lambda learner=learner: sampled_step(learner, few, samples, reply))  # type: ignore[misc]
                if which:
                    taken.setdefault(f"{name}.sft", []).append(sft)
                    taken.setdefault(f"{name}.reinforce", []).append(rl)
            for name, seconds in _generation(base, few, samples, reply).items():
                if which:
                    taken.setdefault(name, []).append(seconds)
    return {
        "threads": torch.get_num_threads(),
        "peak_gb": peaks["free"]["peak"] / 1e9,
        "estimate_ratio": peaks["free"]["estimate"] / peaks["free"]["peak"],
        "bounded_peak_gb": peaks["bounded"]["peak"] / 1e9,
        "sft_seconds": min(taken["svf.sft"]),
        "sft_ratio": ratio(taken["svf.sft"], taken["lora.sft"]),
        "reinforce_ratio": ratio(taken["svf.reinforce"], taken["lora.reinforce"]),
        "shared_prompts_speedup": ratio(taken["repeated"], taken["shared"]),
    }


def requests(model: T2Model, count: int, tokens: int) -> list[Example]:
    """Requests whose prompts have about that many tokens, as the model's template renders them."""
    examples = []
    for number in range(count):
        words = [_WORDS[(number + k * (number + 1)) % len(_WORDS)] for k in range(tokens)]

        def length(size: int, words: list[str] = words) -> int:
            return int(encode(model, [Prompt.user(" ".join(words[:size]))])["input_ids"].shape[1])

        fixed, each = length(0), (length(len(words)) - length(0)) / len(words)
        size = max(1, int((tokens - fixed) / each))
        examples.append(Example(" ".join(words[:size]), "yes"))
    return examples


def step(learner: Learner, examples: list[Example], reply: int) -> None:
    """The gradient of a step of next-token training."""
    vocabulary = len(learner.model.tokenizer)
    generator = torch.Generator().manual_seed(0)
    rows = [
        Row(i, tuple(torch.randint(vocabulary, (reply,), generator=generator).tolist()), 1.0, 1)
        for i in range(len(examples))
    ]
    learner.backward(examples, rows, reply * len(rows))


def sampled_step(learner: Learner, examples: list[Example], samples: int, reply: int) -> None:
    """Sampled replies, and the gradient of as many rows: all of the same lengths, so that what two
    adapters are timed on is the same."""
    seeds = reply_seeds(examples, samples, 0)
    groups = learner.replies(examples, samples=samples, temperature=1.0, seeds=seeds)
    vocabulary = len(learner.model.tokenizer)
    generator = torch.Generator().manual_seed(0)
    rows = [
        Row(i, tuple(torch.randint(vocabulary, (reply,), generator=generator).tolist()), w, 1)
        for i, group in enumerate(groups)
        for w in [1.0, -1.0] * (len(group) // 2)
    ]
    learner.backward(examples, rows, reply * len(rows))


def _generation(
    model: T2Model, examples: list[Example], samples: int, reply: int
) -> dict[str, float]:
    """Seconds of sampling, with each prompt run once and with it repeated for each sample."""
    options = GenerationOptions(max_tokens=reply, temperature=1.0, seed=0)
    prompts = [Prompt.of(example) for example in examples]
    copies = [prompt for prompt in prompts for _ in range(samples)]
    with plain_sampling(model.model):
        return {
            "shared": _seconds(lambda: generate(model, prompts, options, samples=samples)),
            "repeated": _seconds(lambda: generate(model, copies, options)),
        }


def _learner(model: T2Model, *, lora: bool, memory: str | None) -> Learner:
    options = options_for("reinforce", {"memory": memory})
    adapter: Adapter = PeftAdapter(model, "lora", 8) if lora else SvfAdapter.start(model, options)
    adapter.prepare(progress=False)
    return Learner(model, adapter, options, 32, start_accelerator(model, options))


def _peak(
    name: str, conversations: int, tokens: int, reply: int, memory: str | None
) -> dict[str, int]:
    """The most bytes that this process has held after two steps, and what was estimated."""
    model = T2Model.from_pretrained(name)
    learner = _learner(model, lora=False, memory=memory)
    examples = requests(model, conversations, tokens - reply)
    with frozen_base(model.model):
        estimate = learner.estimate(examples, reply)
        for _ in range(2):
            step(learner, examples, reply)
    return {"peak": peak_bytes(model.device), "estimate": estimate}


def _seconds(work: Callable[[], object]) -> float:
    """Of this process's processors that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start
