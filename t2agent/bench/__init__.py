"""Reproducible measurements: ``t2agent bench NAME``.

Each module has ``run() -> dict`` in plain JSON, numbers or nested numbers; where a key "summary"
is among them, it holds the figures of the table. Speeds are ratios taken within one run, so that
they mean the same on a slow machine and on a busy one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Literal

from t2agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wanted:
    """A figure that a measurement should reach."""

    sense: Literal[">=", "<="]
    value: float

    def met(self, measured: float) -> bool:
        """Whether a measured figure is good enough."""
        return measured >= self.value if self.sense == ">=" else measured <= self.value

    def __str__(self) -> str:
        return f"{self.sense} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One measurement, by the function ``run`` of the module of its name.

    ``wanted``: name of a figure, as `figures` names it -> what it should be. ``long``: it takes
    hours, and "all" leaves it out. ``tables``: its result has "tables", as `t2agent.bench.table`
    makes them, to be printed before the figures that are wanted.
    """

    about: str
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    long: bool = False
    tables: bool = False


BENCHMARKS: Mapping[str, Benchmark] = {
    "decompose": Benchmark(
        "P1: decomposing a 2048 x 8192 weight, against torch.linalg.svd",
        {"times_faster": Wanted(">=", 5), "bytes_ratio": Wanted("<=", 0.25)},
    ),
    "merge": Benchmark(
        "P2: merging an expert into a model of Qwen2-0.5B's shape, against matrix products",
        {"ratio": Wanted(">=", 0.85), "switch_ms": Wanted("<=", 1)},
    ),
    "rows": Benchmark(
        "P3: eight experts in one decoding batch, against one at a time and against none",
        {
            "throughput_ratio": Wanted(">=", 7),
            "cost_ratio": Wanted("<=", 1.5),
            "few.throughput_ratio": Wanted(">=", 7.5),
            "few.cost_ratio": Wanted("<=", 1.15),
        },
    ),
    "dispatch_cost": Benchmark(
        "P4: dispatching one request, against encoding it",
        {"ratio": Wanted("<=", 1.1)},
    ),
    "start": Benchmark(
        "from the shell: t2agent dispatch, and t2agent chat until its first token",
        {"dispatch_s": Wanted("<=", 1.5), "first_token_s": Wanted("<=", 4)},
    ),
    "clinc": Benchmark(
        "P5: CLINC150, with 10 examples a label and with all",
        {
            "few.accuracy": Wanted(">=", 0.905),
            "few.auroc": Wanted(">=", 0.955),
            "few.calibration_error": Wanted("<=", 0.02),
            "all.accuracy": Wanted(">=", 0.95),
            "all.auroc": Wanted(">=", 0.97),
            "all.calibration_error": Wanted("<=", 0.02),
        },
    ),
    "real_prompts": Benchmark(
        "P5: real requests, from other sources than the examples",
        {
            f"{case}.{figure}": Wanted(">=", value)
            for case in ("shipped", "fitted")
            for figure, value in {
                "math": 0.95,
                "code": 0.95,
                "reasoning": 0.7,
                "auroc": 0.94,
                "passed": 0.75,
                "refused": 0.85,
            }.items()
        },
    ),
    "long_requests": Benchmark(
        "requests with 20 kinds of pasted text, 50 to 5,000 words, before or after them",
        {"fine": Wanted(">=", 0.9), "refused": Wanted(">=", 0.85), "most_pieces": Wanted("<=", 1)},
    ),
    "many_experts": Benchmark(
        "1,000 experts: opening the registry, dispatching against ten, memory (two minutes)",
        {
            "open_warm_s": Wanted("<=", 1),
            "dispatch_ratio": Wanted("<=", 1.5),
            "right": Wanted(">=", 0.95),
            "held": Wanted("<=", 1),
        },
    ),
    "expert_overhead": Benchmark(
        "P8: one expert over 100 tokens, its merge included, against the base model",
        {"ratio": Wanted("<=", 1.05), "few_ratio": Wanted("<=", 1.06)},
    ),
    "serving": Benchmark(
        "a server: requests at once, over HTTP, and a storm of good and bad ones (minutes)",
        {
            "gain": Wanted(">=", 3),
            "equal": Wanted(">=", 1),
            "http_share": Wanted(">=", 0.95),
            "storm.wrong": Wanted("<=", 0),
            "storm.health_p99": Wanted("<=", 0.1),
            "storm.more_memory": Wanted("<=", 100 << 20),
        },
    ),
    "chat_overhead": Benchmark(
        "ChatT2.invoke of 100 tokens, against generate() of transformers",
        {
            "nano.ratio": Wanted("<=", 1.03),
            "qwen2.ratio": Wanted("<=", 1.03),
            "smollm2.rows_throughput": Wanted(">=", 0.97),
        },
    ),
    "next_steps": Benchmark(
        "steps 2 to 5 of an agent: time to the first token with the prefix cache, against without",
        {"ratio": Wanted("<=", 0.25), "equal": Wanted(">=", 1)},
    ),
    "decoding": Benchmark(
        "smollm2 decoding one request on a CPU: packed weights, an expert, a schema, llama.cpp",
        {
            "faster_than_bfloat16": Wanted(">=", 3),
            "expert_ratio": Wanted(">=", 0.8),
            "llama_ratio": Wanted(">=", 0.8),
            "call_ratio": Wanted("<=", 0.4),
        },
    ),
    "engines": Benchmark(
        "vLLM or llama.cpp with exported experts, beside this engine: replies, sixteen at once",
        {"equal": Wanted(">=", 0.95)},
    ),
    "constrained": Benchmark(
        "decoding by a grammar at 151,936 entries, against free decoding",
        {"ratio": Wanted("<=", 1.15)},
    ),
    "concurrent": Benchmark(
        "16 requests at once with mixed experts, against one after the other",
        {"throughput_ratio": Wanted(">=", 4), "equal": Wanted(">=", 1)},
    ),
    "nano": Benchmark(
        "t2-nano: experts of three seeds, trained and measured (some twenty minutes)",
        {
            "tasks.math.right expert": Wanted(">=", 0.95),
            "tasks.code.right expert": Wanted(">=", 0.82),
            "tasks.read.right expert": Wanted(">=", 0.85),
            "tasks.reasoning.right expert": Wanted(">=", 0.75),
            "not_above_base": Wanted(">=", 0.8),
            "dispatch_gap": Wanted("<=", 0.02),
            # Chance: one of 90 numbers; two images in a row may show the same.
            "blank_image": Wanted("<=", 0.05),
            "swapped_image": Wanted("<=", 0.05),
        },
    ),
    "paper": Benchmark(
        "the paper's experiments: --quick in ten minutes, in full in some hours",
        {
            **{
                f"own.{task}": Wanted(">=", value)
                for task, value in {
                    "math": 0.97,
                    "math_hard": 0.9,
                    "code": 0.85,
                    "code_hard": 0.75,
                    "reasoning": 0.85,
                    "reasoning_hard": 0.6,
                    "json": 0.85,
                    "tools": 0.95,
                    "read": 0.92,
                    "chart": 0.85,
                    "count": 0.88,
                    "count_hard": 0.8,
                }.items()
            },
            "wrong_at_most_base": Wanted(">=", 0.85),
            **{
                f"least_gain.{strategy}": Wanted(">=", 0)
                for strategy in ("prompt", "classifier", "few-shot", "embedding")
            },
            "oracle_gap": Wanted("<=", 0.03),
            "routed.classifier": Wanted(">=", 0.95),
            "combinations_won": Wanted(">=", 2),
            "least_over_single": Wanted(">=", -0.02),
            "image_sum_by_math": Wanted(">=", 0.35),
            "behind_lora.svf-mlp.own": Wanted("<=", 0.02),
            "behind_lora.svf-mlp.sibling": Wanted("<=", 0.02),
            "share.embedding": Wanted("<=", 0.02),
        },
        long=True,
    ),
    "real": Benchmark(
        "a real base model on real data: base, its experts, dispatched (hours; --quick: minutes)",
        {
            "tool_calls.right tool.expert": Wanted(">=", 0.9),
            "tool_calls.fully right.expert": Wanted(">=", 0.6),
            "bfcl.simple and multiple.expert": Wanted(">=", 0.45),
            "bfcl.simple and multiple.gain": Wanted(">=", 0.2),
            "bfcl.no call.expert": Wanted(">=", 0.7),
            "tool_answers.says all.expert": Wanted(">=", 0.85),
            "held_out.labels.strict.expert": Wanted(">=", 0.6),
            "extract.F1.expert": Wanted(">=", 0.75),
            "extract.valid.expert": Wanted(">=", 1),
            "held_out.extract.F1.expert": Wanted(">=", 0.45),
            "arith.right.gain": Wanted(">=", 0.2),
            "mixed.gap": Wanted("<=", 0.02),
            "mixed.left to base": Wanted(">=", 0.9),
            "wrong_at_most_base": Wanted(">=", 0.8),
        },
        long=True,
        tables=True,
    ),
    "training": Benchmark(
        "training: memory, time against PEFT's LoRA, generation with shared prompts",
        {
            "peak_gb": Wanted("<=", 3),
            "bounded_peak_gb": Wanted("<=", 2),
            "sft_ratio": Wanted("<=", 1.1),
            "reinforce_ratio": Wanted("<=", 1.15),
            "shared_prompts_speedup": Wanted(">=", 2.5),
        },
    ),
    "agent": Benchmark(
        "fifty tasks for an agent: t2-nano's errands, or with --model, three tools of one's own",
        {"experts.solved": Wanted(">=", 0.8)},
    ),
    "tools": Benchmark(
        "a shortlist of tools: how many must be shown so that those are that a request wants",
    ),
    "adapt": Benchmark(
        "t2-nano adapting to ten bare answers: base, best single expert, found (half an hour)",
        {
            "least_over_base": Wanted(">=", -0.02),
            "least_over_single": Wanted(">=", -0.02),
            "math_json": Wanted(">=", 0.8),
        },
    ),
    "accuracy": Benchmark(
        "t2-nano as shipped: base, wrong expert, right expert and dispatched",
    ),
}


def run(name: str, **settings: Any) -> dict[str, Any]:
    """Measure; the numbers, nested where there are several cases.

    Args:
        name: one of `BENCHMARKS`.
        settings: arguments of the benchmark's own ``run``, such as its size.

    Raises:
        ConfigError: there is no such benchmark or setting, or what it needs is not there.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
    known, more = _settings(name)
    unknown = [] if more else sorted(settings.keys() - known)
    if unknown:
        takers = [other for other in BENCHMARKS if set(unknown) <= set(_settings(other)[0])]
        hint = f"; {' and '.join(takers)} would take that" if takers else ""
        raise ConfigError(
            f"benchmark {name!r} has no setting {', '.join(unknown)}; "
            f"known: {', '.join(known) or 'none'}{hint}"
        )
    return _runner(name)(**settings)


def _runner(name: str) -> Callable[..., dict[str, Any]]:
    run: Callable[..., dict[str, Any]] = import_module(f"t2agent.bench.{name}").run
    return run


def _settings(name: str) -> tuple[list[str], bool]:
    """The settings of a benchmark, and whether it takes others, which it checks itself."""
    parameters = signature(_runner(name)).parameters
    known = [key for key, one in parameters.items() if one.kind is not Parameter.VAR_KEYWORD]
    return known, len(known) < len(parameters)


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result, or of its summary: {"a": {"b": 1}} gives {"a.b": 1}."""
    return dict(_flat(result.get("summary", result), ""))


def _flat(result: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value
