"""Decoding one request on a CPU: generate() in bfloat16, by packed weights, and llama.cpp.

Figures wanted, for smollm2: by packed weights at least 3 times as many tokens a second as in
bfloat16 and .8 times as many as llama.cpp with the same file; with an expert of 64 directions at
least .8 times as many as without; and a reply held to a schema, its prompt included, in at most .4
times the time of generate() in bfloat16 under the same grammar.

All take turns, with equally many threads. What is timed is processor time, divided by the threads,
so that a busy machine does not count: of the tokens after the first, so that reading the prompt
does not count either, but for the reply by a schema, of which the whole is.

llama.cpp (the package llama-cpp-python) is run by a Python of its own where that is given: its
figures are missing elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any

import torch

from t2agent.bench.shapes import expert, ratio
from t2agent.errors import ConfigError
from t2agent.models.compiling import compiled
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import end_tokens
from t2agent.models.generate import Prompt, encode, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import packed_weights
from t2agent.replies.constraint import json_constraint

REQUEST = "Tell me about the history of the city of Rome."
VARIABLE = "T2AGENT_LLAMA_PYTHON"
BOOKING = (
    "Book a table for four people at the restaurant Da Enzo in Rome on 12 May 2027 at 19:30 "
    "for Anna Schmidt."
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        key: {"type": "string", "maxLength": 20}
        for key in ("restaurant", "city", "date", "time", "people", "name")
    },
    "required": ["restaurant", "city", "date", "time", "people", "name"],
    "additionalProperties": False,
}
_DIRECTIONS = 64

# Each line of its input is a number of tokens; it answers with the seconds of those after the
# first. The end of a reply is left out, and so is drawing tokens, which nobody does otherwise.
_LLAMA = """
import json, sys, time
from llama_cpp import Llama
file, threads, prompt = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
model = Llama(file, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
print("ready", flush=True)
for line in sys.stdin:
    model.reset()
    model.eval(prompt)
    token = model.sample(temp=0)
    before = time.process_time()
    for _ in range(int(line) - 1):
        model.eval([token])
        token = model.sample(temp=0)
    print(time.process_time() - before, flush=True)
"""


def run(
    tokens: int = 100, repeats: int = 7, model: str = "smollm2", llama: str | None = None
) -> dict[str, Any]:
    """Medians over turns: tokens a second, and ratios.

    Args:
        tokens: of each reply; the end of it is switched off.
        repeats: turns.
        model: a base model that has packed weights.
        llama: a Python that has llama_cpp; by default ``$T2AGENT_LLAMA_PYTHON``.

    Raises:
        ConfigError: the model has no packed weights here, or that Python has no llama_cpp.
    """
    return measure(T2Model.from_pretrained(model, dtype="bfloat16"), tokens, repeats, llama)


def measure(model: T2Model, tokens: int, repeats: int, llama: str | None = None) -> dict[str, Any]:
    """`run` with a model that is there."""
    packed = packed_weights(model)
    if packed is None or model.gguf is None:
        raise ConfigError(
            f"{model.name} has no packed weights here: they need a base model of a GGUF file of "
            "Llama's shape, on a CPU with AVX2; try smollm2"
        )
    calls: dict[str, list[float]] = {"call": [], "call_in_bfloat16": []}
    for turn in range(repeats + 1):
        for name, each in calls.items():
            one = _call(model, quantized=name == "call")
            if turn:
                each.append(one)
    # The last word of the vocabulary stands for the end, which no reply is to come to.
    model.model.generation_config.eos_token_id = [len(packed.embedding) - 1]
    some = expert(model, 1)
    for z in some.z.values():
        z[_DIRECTIONS:] = 1
    model.decompose()

    def ours(quantized: bool, what: Any = None) -> float:
        with model.adapted(what):
            return _after_first(model, tokens, quantized)

    ways: dict[str, Callable[[], float]] = {
        "bfloat16": lambda: ours(False),
        "packed": lambda: ours(True),
        "expert": lambda: ours(True, some),
    }
    python = llama or os.environ.get(VARIABLE)
    with _llama(python, model) as ask:
        if ask is not None:
            ways["llama"] = lambda: ask(tokens)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, way in ways.items():
                spent = way()
                if turn:  # the first turn warms up
                    seconds[name].append(spent)
    threads = torch.get_num_threads()
    rates = {name: (tokens - 1) * threads / median(each) for name, each in seconds.items()}
    result = {"threads": threads, "tokens": tokens, "tokens_a_second": rates}
    result["faster_than_bfloat16"] = ratio(seconds["bfloat16"], seconds["packed"])
    result["call_ratio"] = ratio(calls["call"], calls["call_in_bfloat16"])
    result["expert_ratio"] = ratio(seconds["packed"], seconds["expert"])
    if "llama" in seconds:
        result["llama_ratio"] = ratio(seconds["llama"], seconds["packed"])
    return result


def _after_first(model: T2Model, tokens: int, quantized: bool) -> float:
    """Processor time of a reply's tokens after the first."""
    prompts = [Prompt.user(REQUEST)]
    inputs = encode(model, prompts)

    def spent(limit: int) -> float:
        options = GenerationOptions(max_tokens=limit)
        before = time.process_time()
        generate(model, prompts, options, inputs=inputs, quantized=quantized)
        return time.process_time() - before

    first = spent(1)
    return spent(tokens) - first


def _call(model: T2Model, quantized: bool) -> float:
    """Processor time of a token of a reply that is held to a schema; in bfloat16, each token has a
    pass of its own."""
    prompts, held, limit = [Prompt.user(BOOKING)], json_constraint(SCHEMA), 120
    inputs = encode(model, prompts)
    compiled(model, held)
    before = time.process_time()
    if quantized:
        [reply] = generate(
            model,
            prompts,
            GenerationOptions(max_tokens=limit),
            inputs=inputs,
            constraints=[held],
            quantized=True,
        )
        made = reply.completion_tokens
    else:
        start = inputs["input_ids"].shape[1]
        ends = frozenset(end_tokens(model))
        found = model.model.generate(
            **inputs,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=sorted(ends),
            logits_processor=[Constrained(model, [held], ends=ends, limit=limit, start=start)],
        )
        made = found.shape[1] - start
    return (time.process_time() - before) / made


@contextmanager
def _llama(python: str | None, model: T2Model) -> Iterator[Callable[[int], float] | None]:
    """What runs llama.cpp for so many tokens, in seconds; None where no Python is given."""
    if python is None:
        yield None
        return
    prompt = encode(model, [Prompt.user(REQUEST)])["input_ids"][0].tolist()
    command = [python, "-c", _LLAMA, str(model.gguf), str(torch.get_num_threads())]
    if not Path(python).is_file():
        raise ConfigError(f"there is no Python {python!r}; give one that has llama_cpp")
    with subprocess.Popen(
        [*command, json.dumps(prompt)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines: IO[str] = process.stdout  # type: ignore[assignment]
        questions: IO[str] = process.stdin  # type: ignore[assignment]
        try:
            if lines.readline().strip() != "ready":
                told = " ".join(process.stderr.read().split())[-300:]  # type: ignore[union-attr]
                raise ConfigError(f"{python} cannot run llama.cpp: {told}")

            def ask(tokens: int) -> float:
                questions.write(f"{tokens}\n")
                questions.flush()
                return float(lines.readline())

            yield ask
        finally:
            process.kill()
