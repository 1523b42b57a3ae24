"""Another engine that serves a base model and its experts, beside this one: its greedy replies
against ours, and sixteen mixed requests at once.

Figures wanted: at least .95 of 50 replies equal. For each reply that is not, "differences" has how
much likelier our next token is than theirs, where the two part, as the difference of the logits
that the model has here, and the rank that theirs has: what is close is rounding, of other kernels.
Reading all tokens in one pass rounds otherwise, too: in bfloat16 a difference may be below 0.

The engine runs already, and `ChatT2Remote` asks it: vLLM with the plugin (``engine=mixtures``),
llama.cpp's server, or whatever serves each expert as a model. docs/SERVING.md says how it is
started. Both take turns in one run, timed by the clock and, where the engine's process is named, by
the processor, so that a busy machine does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from t2agent.bench.datasets import read_jsonl
from t2agent.bench.real.forms import label_request
from t2agent.bench.real.rows import REAL
from t2agent.bench.shapes import ratio
from t2agent.engine.batching import Call
from t2agent.engine.two_passes import Given
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard, MixtureLike
from t2agent.models.generate import Prompt, encode, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import packed_weights
from t2agent.server.served import Served
from t2agent.svf.low_rank import largest

if TYPE_CHECKING:
    from t2agent.chat.remote import ChatT2Remote

Asked = tuple[Mapping[str, float], str]
"""A mixture, empty for the base model, and a request."""

_FILES: Sequence[tuple[Mapping[str, float], str, str]] = (
    ({}, "gsm8k_test", "prompt"),
    ({"tools": 1.0}, "tool_calls_dev", "prompt"),
    ({"label": 1.0}, "labels_dev", "text"),
    ({"extract": 1.0}, "extract_dev", "text"),
    ({"answer": 1.0}, "choice_dev", "prompt"),
    ({"arithmetic": 1.0}, "arith_dev", "prompt"),
    ({"tools": 0.7, "extract": 0.3}, "tool_calls_dev", "prompt"),
)
_LONGEST = 300  # characters of a request
_AT_ONCE = 16


def run(
    url: str | None = None,
    model: str = "smollm2",
    engine: str | None = None,
    rank: int | None = None,
    dtype: str = "auto",
    quantized: bool = False,
    requests: int = 50,
    tokens: int = 40,
    repeats: int = 3,
    process: int | None = None,
    data: Path | str = REAL,
) -> dict[str, Any]:
    """The share of equal replies, each difference, and the ratios of the speeds.

    Args:
        url, engine: of the endpoint, as of `ChatT2Remote`.
        model: the base model, here and by its experts' name there.
        rank: the experts as an export of that rank has them; None: whole.
        dtype: of the model here. quantized: decode by the weights of its GGUF file.
        requests: how many replies are compared; over none, five experts and a mixture in turn.
        tokens: of a reply, at most.
        repeats: turns of sixteen requests at once; 0 for none.
        process: the engine's process, whose processor time and its children's are counted.
        data: the folder of real data.

    Raises:
        ConfigError: no url is given, the data is not there, or as `ChatT2Remote`.
        EndpointError: the engine cannot be reached, or refuses.
    """
    from t2agent.chat.remote import ChatT2Remote

    if url is None:
        raise ConfigError(
            "no engine is given: start one as docs/SERVING.md says, and give its address "
            "(t2agent bench engines --set url=http://localhost:8000/v1)"
        )
    chat = ChatT2Remote(model, base_url=url, engine=engine, max_tokens=tokens, dispatch="off")
    ours = T2Model.from_pretrained(model, dtype=dtype)
    asked = _real(Path(data), max(requests, _AT_ONCE))
    found = compared(ours, chat, asked[:requests], tokens, rank, quantized=quantized)
    if repeats:
        found |= throughput(ours, chat, asked[:_AT_ONCE], tokens, rank, repeats, process)
    return found


def _real(data: Path, count: int) -> list[Asked]:
    columns = []
    for place, (mixture, file, key) in enumerate(_FILES):
        rows: list[Mapping[str, Any]] = [
            row for row in read_jsonl(data / f"{file}.jsonl.gz", key) if len(row[key]) < _LONGEST
        ]
        each = -(-count // len(_FILES))
        rows = rows[place * each : (place + 1) * each]  # two read the same file
        labelled = (label_request(r[key], r["labels"]) if "labels" in r else r[key] for r in rows)
        columns.append([(mixture, text) for text in labelled])
    return [one for row in zip(*columns, strict=True) for one in row][:count]


def compared(
    model: T2Model,
    chat: ChatT2Remote,
    asked: Sequence[Asked],
    tokens: int,
    rank: int | None = None,
    *,
    quantized: bool = False,
) -> dict[str, Any]:
    """How many greedy replies are equal, and where the others part; arguments as of `run`."""
    theirs = _texts(chat, asked)
    kept = _Limited(model, rank)
    options = GenerationOptions(max_tokens=tokens)
    differences: list[dict[str, Any]] = []
    for (mixture, text), their in zip(asked, theirs, strict=True):
        with model.adapted(kept.of(mixture)):
            [reply] = generate(model, [Prompt.user(text)], options, quantized=quantized)
            if reply.text.strip() != their.strip():
                where = _parting(model, text, reply.text, their)
                said = {"mixture": dict(mixture), "ours": reply.text, "theirs": their}
                differences.append(where | said)
    return {
        "requests": len(asked),
        "equal": 1 - len(differences) / len(asked),
        "differences": differences,
    }


def throughput(
    model: T2Model,
    chat: ChatT2Remote,
    asked: Sequence[Asked],
    tokens: int,
    rank: int | None,
    repeats: int,
    process: int | None = None,
) -> dict[str, Any]:
    """Seconds a token of requests at once, and how many times as fast as theirs ours are: "plain",
    and "packed" where the model has packed weights; arguments as of `run`."""
    ways: dict[str, tuple[Callable[[], list[str]], int | None]] = {
        "theirs": (lambda: _texts(chat, asked), process),
        "plain": (_ours(model, asked, tokens, rank, quantized=False), os.getpid()),
    }
    if packed_weights(model) is not None:
        ways["packed"] = (_ours(model, asked, tokens, rank, quantized=True), os.getpid())
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, (way, pid) in ways.items():
            spent, begun = _spent(pid), time.perf_counter()
            texts = way()
            seconds, spent = time.perf_counter() - begun, _spent(pid) - spent
            if turn:  # the first turn warms up
                made = sum(len(_ids(model, text)) + 1 for text in texts)
                clock[name].append(seconds / made)
                processor[name].append(spent / made)
    told: dict[str, Any] = {"seconds_a_token": clock, "faster": _faster(clock)}
    if process is not None:
        told |= {"processor_seconds_a_token": processor, "less_processor": _faster(processor)}
    return told


def _ours(
    model: T2Model, asked: Sequence[Asked], tokens: int, rank: int | None, *, quantized: bool
) -> Callable[[], list[str]]:
    """What answers all requests at once here, as `t2agent serve` does."""
    base = Served([model], rows=len(asked), dispatch="off", quantized=quantized).first
    kept = _Limited(model, rank)
    options = GenerationOptions(max_tokens=tokens)
    calls = [
        Call(base.engine, Prompt.user(text), options, Given(kept.of(mixture)))
        for mixture, text in asked
    ]

    def answer() -> list[str]:
        jobs = [base.scheduler.submit(call) for call in calls]
        return [job.future.result().generation.text for job in jobs]

    return answer


def _faster(spent: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {n: ratio(spent["theirs"], each) for n, each in spent.items() if n != "theirs"}


class _Limited:
    """Mixtures as an export of a rank has them: in each layer, that many directions which change
    the weight most (`t2agent.svf.low_rank`)."""

    def __init__(self, model: T2Model, rank: int | None) -> None:
        self._model, self._rank = model, rank
        self._made: dict[tuple[tuple[str, float], ...], Expert] = {}

    def of(self, mixture: Mapping[str, float]) -> MixtureLike:
        key = tuple(mixture.items())
        if self._rank is None or not mixture:
            return dict(mixture) or None
        if key not in self._made:
            self._model.decompose()
            z = {}
            for name, delta in self._model.deltas(dict(mixture)).items():
                kept = torch.zeros_like(delta)
                most = largest(self._model.bases[name], delta)[: self._rank]
                kept[most] = delta[most]
                z[name] = 1 + kept
            self._made[key] = Expert(ExpertCard("limited"), z)
        return self._made[key]


def _texts(chat: ChatT2Remote, asked: Sequence[Asked]) -> list[str]:
    def one(given: Asked) -> str:
        mixture, text = given
        reply = chat.invoke(text, mixture=dict(mixture)) if mixture else chat.invoke(text)
        return str(reply.content)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(one, asked))


def _parting(model: T2Model, text: str, ours: str, theirs: str) -> dict[str, Any]:
    """Where two replies part: the token's place, how far our token's logit is above theirs, and the
    rank of theirs; as the model is adapted here."""
    end = model.tokenizer.eos_token_id
    mine, other = ([*_ids(model, one.strip()), end] for one in (ours, theirs))
    place = next(
        (at for at, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b),
        min(len(mine), len(other)) - 1,
    )
    prompt = encode(model, [Prompt.user(text)])["input_ids"]
    ids = torch.cat([prompt, torch.tensor([mine[:place]], dtype=prompt.dtype)], 1)
    with torch.no_grad():
        logits = model.model(input_ids=ids, logits_to_keep=1).logits[0, -1].float()
    gap = float(logits[mine[place]] - logits[other[place]])
    rank = int((logits > logits[other[place]]).sum()) + 1
    return {"token": place, "gap": gap, "rank": rank}


def _ids(model: T2Model, text: str) -> list[int]:
    found: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _spent(process: int | None) -> float:
    """Processor seconds of a process and its children."""
    if process is None:
        return 0.0
    known = psutil.Process(process)
    times = [one.cpu_times() for one in (known, *known.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))
