"""How much a run of the paper's experiments measures: in full, or quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field

from t2agent.dispatch.few_shot.search import SearchOptions
from t2agent.models.options import Count, CountOrZero, Positive, checked
from t2agent.train.options import options_for

Part = Literal["experts", "strategies", "few-shot", "controls", "transfer", "methods", "costs"]
PARTS: tuple[str, ...] = get_args(Part)
"""The parts of a run; "methods" is the comparison of SVF with LoRA and IA3."""

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


_Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
_Some = Annotated[_Distinct[T], Field(min_length=1)]


@checked
class Plan:
    """Sizes of the experiments.

    Attributes:
        parts: which of `PARTS` are run; none stands for all. A table or figure that needs others
            is left out.
        seeds: one set of experts is trained for each.
        requests: test requests a task.
        chosen_on: validation requests on which a weight or a learning rate is chosen.
        taught_by: the method (`training.METHODS`, one of z) that experts are trained by, at the
            product's own learning rate. A real model earns no reward for what it has never seen,
            and wants "svf-sft".
        steps: most training steps.
        shots: examples that a few-shot search has.
        scaling: numbers of examples for few-shot scaling.
        scales: weights at which a single expert is tried for its best one.
        search: fields of `SearchOptions`.
        methods: the training methods that are compared, by name (`training.METHODS`).
        rates: method -> its learning rate, where that is known and need not be chosen.
        rates_on: how many of the domains a method's learning rate is chosen on.
        compared_on: how many of the domains the methods are compared on; None for all.
        timed: requests whose first pass is timed, one at a time.
        hyper: fields of `TrainOptions` for all trainings.

    Raises:
        ConfigError: a value is of another kind, or outside its range.
    """

    parts: _Distinct[Part] = ()
    seeds: _Some[CountOrZero] = (0, 1, 2)
    requests: Count = 300
    chosen_on: Count = 100
    taught_by: str = "svf"
    steps: Count = 60
    shots: Count = 30
    scaling: _Some[Count] = (3, 5, 10, 30)
    scales: _Some[Positive] = (0.5, 0.75, 1.0, 1.25, 1.5)
    search: Mapping[str, Any] = field(default_factory=dict)
    methods: _Distinct[str] = ()
    rates: Mapping[str, Positive] = field(default_factory=dict)
    rates_on: CountOrZero = 3
    compared_on: Count | None = None
    timed: Count = 24
    hyper: Mapping[str, Any] = field(default_factory=lambda: {"validation": 128, "patience": 8})

    def __post_init__(self) -> None:
        SearchOptions(**self.search)
        options_for("reinforce", self.hyper)

    def has(self, *parts: str) -> bool:
        """Whether all of these parts are run."""
        return not self.parts or set(parts) <= set(self.parts)

    @property
    def uses_experts(self) -> bool:
        """Whether the domains' experts are needed: for all parts but the comparison, which trains
        its own."""
        return set(self.parts) != {"methods"}


FULL = Plan()
QUICK = Plan(
    seeds=(0,),
    requests=24,
    chosen_on=12,
    steps=12,
    shots=6,
    scaling=(3, 6),
    scales=(1.0,),
    search={"iterations": 1, "population": 8, "climb": 15},
    methods=("svf", "svf-mlp", "svf-sft", "lora-r4", "lora-r4-sft"),
    rates_on=0,
    compared_on=1,
    timed=8,
    hyper={"validation": 32},
)
