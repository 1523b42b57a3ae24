"""The hyperparameters of training, checked in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import StrictStr

from t2agent.errors import ConfigError
from t2agent.models.options import Count, CountOrZero, NotNegative, Positive, checked, needs

Method = Literal["reinforce", "sft"]
METHODS: tuple[str, ...] = ("reinforce", "sft")

_BY_METHOD: dict[str, dict[str, Any]] = {
    "reinforce": {},
    # Next-token training has no samples, and by default nothing that holds it at the base.
    "sft": {"kl": 0.0, "samples": 1, "baseline": "none", "prompts": 64},
}

_MODULES = "'all', 'attention', 'mlp' or a regular expression"
_YOUNGER: dict[str, Any] = {"modules": "all", "directions": None, "evenness": 0.0}


@checked
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
        evenness: how much faster the z of smaller singular values learns, see
            `train.adapters.stretch`. At 0 all z take equal steps, so that the weight moves most
            along its largest directions; at 1 it moves along all of them alike.

    Raises:
        ConfigError: a value is outside its range.
    """

    learning_rate: Positive = 0.02
    kl: NotNegative = 0.02
    prompts: Count = 32
    samples: Count = 4
    temperature: Positive = 1.0
    baseline: Literal["group", "none"] = "group"
    max_tokens: Count | None = None
    clip: Positive = 1.0
    validate_every: Count = 5
    validation: Count = 64
    patience: CountOrZero = 4
    rows: Count = 128
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    modules: Annotated[StrictStr, needs(_MODULES)] = "all"
    directions: Count | None = None
    evenness: NotNegative = 0.0

    def __post_init__(self) -> None:
        try:
            re.compile(self.modules)
        except re.error as error:
            told = f"modules is {self.modules!r}; it must be {_MODULES} ({error})"
            raise ConfigError(told) from error
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


def options_for(method: str, hyper: Mapping[str, Any]) -> TrainOptions:
    """The options of a method: its defaults, overridden by ``hyper``.

    Raises:
        ConfigError: an unknown method, an unknown name, or a value outside its range.
    """
    if method not in METHODS:
        raise ConfigError(f"got the method {method!r}; needed one of {', '.join(METHODS)}")
    return TrainOptions(**{**_BY_METHOD[method], **hyper})
