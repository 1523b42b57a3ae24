"""The hyperparameters of training, checked in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from t2agent.errors import ConfigError

Method = Literal["reinforce", "sft"]
METHODS: tuple[str, ...] = ("reinforce", "sft")

_BY_METHOD: dict[str, dict[str, Any]] = {
    "reinforce": {},
    # Next-token training has no samples, and by default nothing that holds it at the base.
    "sft": {"kl": 0.0, "samples": 1, "baseline": "none", "prompts": 64},
}

_YOUNGER: dict[str, Any] = {"modules": "all", "directions": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Hyperparameters. The defaults train an expert for t2-nano in 25 to 40 steps.

    The authors of the paper use Adam at 2e-3 with the gradient's norm clipped at 1e-3; here z
    itself is the parameter (they train its logit), which bears a ten times higher rate.

    Attributes:
        learning_rate: Adam's, for z.
        kl: weight of KL(adapted || base) per token; 0 skips the base model's pass.
        prompts: prompts per step.
        samples: replies sampled for each prompt (reinforce only).
        temperature: of the sampled policy, which is also the one that is trained.
        baseline: "group" takes from each reward the mean of the prompt's other replies;
            "none" takes nothing, as in the paper.
        max_tokens: longest reply; None takes the task's own ``max_tokens``, else 128.
        clip: largest norm of the gradient over all z.
        validate_every: steps between two validations.
        validation: examples of the validation split, decoded greedily.
        patience: validations without a better reward before training stops; 0 never stops.
        rows: most replies in one pass of the model; larger steps are cut into passes of about
            that many, with equal gradients up to rounding.
        mixed_precision: "bf16" computes in bfloat16 where that is safe, "no" does not; "auto"
            takes what `accelerate` was launched with, else "bf16" where the processor or GPU has
            bfloat16 units: measured on t2-nano, two thirds of the time and the same rewards.
        modules: which of the base model's adapted layers are trained: "all", "attention", "mlp",
            or a regular expression that is searched for in their names.
        directions: how many values of each z are free, those of the largest singular values; the
            others stay exactly 1. None: all. Such an expert is a LoRA of that rank.

    Raises:
        ConfigError: a value is outside its range.
    """

    learning_rate: float = 0.02
    kl: float = 0.02
    prompts: int = 32
    samples: int = 4
    temperature: float = 1.0
    baseline: Literal["group", "none"] = "group"
    max_tokens: int | None = None
    clip: float = 1.0
    validate_every: int = 5
    validation: int = 64
    patience: int = 4
    rows: int = 128
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    modules: str = "all"
    directions: int | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature", "clip"):
            self._number(name, above=0.0)
        self._number("kl", at_least=0.0)
        for name in ("prompts", "samples", "validate_every", "validation", "rows"):
            self._whole(name, 1)
        self._whole("patience", 0)
        for name in ("max_tokens", "directions"):
            if getattr(self, name) is not None:
                self._whole(name, 1)
        self._choice("baseline", ("group", "none"))
        self._choice("mixed_precision", ("auto", "no", "bf16"))
        self._pattern("modules")
        if self.baseline == "group" and self.samples < 2:
            raise ConfigError(
                f"baseline 'group' needs at least 2 samples per prompt, got {self.samples}; "
                "raise samples or set baseline='none'"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What tells two runs apart. Options younger than the first checkpoints count only where
        they are set, so that those go on."""
        plain = self.to_dict()
        return {
            name: value
            for name, value in plain.items()
            if name not in _YOUNGER or value != _YOUNGER[name]
        }

    def _number(self, name: str, *, above: float = -math.inf, at_least: float = -math.inf) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= above or value < at_least:
            bound = f"above {above:g}" if above > -math.inf else f"of at least {at_least:g}"
            raise ConfigError(f"{name} is {value!r}; it must be a finite number {bound}")

    def _whole(self, name: str, at_least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number >= {at_least}")

    def _pattern(self, name: str) -> None:
        value = getattr(self, name)
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"{name} is {value!r}; it must be 'all', 'attention', 'mlp' or a regular "
                f"expression ({error})"
            ) from error

    def _choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be one of {choices}")


def options_for(method: str, hyper: Mapping[str, Any]) -> TrainOptions:
    """The options of a method: its defaults, overridden by ``hyper``.

    Raises:
        ConfigError: an unknown method, an unknown name, or a value outside its range.
    """
    if method not in METHODS:
        raise ConfigError(f"got the method {method!r}; needed one of {', '.join(METHODS)}")
    known = [field.name for field in fields(TrainOptions)]
    unknown = sorted(set(hyper) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown hyperparameter(s) {', '.join(unknown)}; known: {', '.join(known)}"
        )
    return TrainOptions(**{**_BY_METHOD[method], **hyper})
