"""How much a run of the paper's experiments measures: in full, or quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from t2agent.dispatch.few_shot.search import search_options
from t2agent.errors import ConfigError
from t2agent.train.options import options_for

PARTS = ("experts", "strategies", "few-shot", "controls", "transfer", "methods", "costs")
"""The parts of a run; "methods" is the comparison of SVF with LoRA and IA3."""

_LEAST = {
    **dict.fromkeys(("requests", "chosen_on", "steps", "shots", "timed", "compared_on"), 1),
    "rates_on": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of the experiments.

    Attributes:
        parts: which of `PARTS` are run; none stands for all. A table or figure that needs others
            is left out.
        seeds: one set of experts is trained for each.
        requests: test requests a task.
        chosen_on: validation requests on which a weight or a learning rate is chosen.
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

    parts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    requests: int = 300
    chosen_on: int = 100
    steps: int = 60
    shots: int = 30
    scaling: tuple[int, ...] = (3, 5, 10, 30)
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    search: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    rates_on: int = 3
    compared_on: int | None = None
    timed: int = 24
    hyper: Mapping[str, Any] = field(default_factory=lambda: {"validation": 128, "patience": 8})

    def __post_init__(self) -> None:
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if not _whole(value, low) and not (name == "compared_on" and value is None):
                raise ConfigError(f"{name} is {value!r}; it must be a whole number >= {low}")
        for name, low in (("seeds", 0), ("scaling", 1)):
            self._listed(name, f"whole numbers >= {low}", partial(_whole, low=low))
        self._listed("scales", "numbers above 0", _above_zero)
        self._listed("methods", "names", lambda name: isinstance(name, str), empty=True)
        self._listed("parts", f"names out of {', '.join(PARTS)}", PARTS.__contains__, empty=True)
        for name in ("search", "hyper"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give an object of options")
        if not isinstance(self.rates, Mapping) or not all(map(_above_zero, self.rates.values())):
            raise ConfigError(f"rates is {self.rates!r}; give an object of learning rates above 0")
        search_options(self.search)
        options_for("reinforce", self.hyper)

    def has(self, *parts: str) -> bool:
        """Whether all of these parts are run."""
        return not self.parts or set(parts) <= set(self.parts)

    @property
    def uses_experts(self) -> bool:
        """Whether the domains' experts are needed: for all parts but the comparison, which trains
        its own."""
        return set(self.parts) != {"methods"}

    def _listed(
        self, name: str, needed: str, fits: Callable[[Any], bool], *, empty: bool = False
    ) -> None:
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or not (value or empty) or not all(map(fits, value)):
            raise ConfigError(f"{name} is {value!r}; give a list of {needed}")
        object.__setattr__(self, name, tuple(dict.fromkeys(value)))


def _whole(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _above_zero(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < float(value) < float("inf")  # type: ignore[arg-type]


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
