"""Reproducible measurements: ``t2agent bench NAME``, or ``python benchmarks/NAME.py``.

Each module here has ``run() -> dict`` with numbers (nested where there are several cases). Speeds
are ratios taken within one run, so that they mean the same on a slow machine and on a busy one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
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
    """One measurement. ``wanted``: name of a figure, as `flat` names it -> what it should be."""

    about: str
    wanted: Mapping[str, Wanted] = field(default_factory=dict)


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
        {"throughput_ratio": Wanted(">=", 7), "cost_ratio": Wanted("<=", 1.5)},
    ),
    "dispatch_cost": Benchmark("P4: dispatching one request, against encoding it"),
    "clinc": Benchmark("P5: CLINC150, with 10 examples a label and with all"),
    "real_prompts": Benchmark("P5: real requests, from other sources than the examples"),
    "expert_overhead": Benchmark(
        "P8: one expert over 100 tokens, its merge included, against the base model",
        {"ratio": Wanted("<=", 1.05)},
    ),
    "accuracy": Benchmark("t2-nano: base, wrong expert, right expert and dispatched"),
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
    measure = import_module(f"{__name__}.{name}").run
    known = signature(measure).parameters
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        raise ConfigError(
            f"benchmark {name!r} has no setting {', '.join(unknown)}; "
            f"known: {', '.join(known) or 'none'}"
        )
    result: dict[str, Any] = measure(**settings)
    return result


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested results as one level: {"a": {"b": 1}} gives {"a.b": 1}."""
    figures: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            figures |= flat(value, f"{prefix}{key}.")
        else:
            figures[f"{prefix}{key}"] = value
    return figures
