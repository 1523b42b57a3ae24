"""The hyperparameters of training, checked in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args

from pydantic import StrictStr

from t2agent.errors import ConfigError
from t2agent.models.options import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    bytes_of,
    checked,
    needs,
)

Method = Literal["auto", "sft", "reinforce", "sft+reinforce"]
METHODS: tuple[str, ...] = get_args(Method)
Objective = Literal["sft", "reinforce"]

_BY_OBJECTIVE: dict[str, dict[str, Any]] = {
    "reinforce": {},
    # Next-token training has no samples, and by default nothing that holds it at the base.
    "sft": {"kl": 0.0, "samples": 1, "baseline": "none", "prompts": 64},
}
_SAMPLED = ("kl", "samples", "baseline", "temperature")
"""What concerns sampled replies: next-token training before REINFORCE keeps its own."""

_MODULES = "'all', 'attention', 'mlp' or a regular expression"
_YOUNGER: dict[str, Any] = {"modules": "all", "directions": None, "evenness": 0.0}


@checked
class TrainOptions:
    """Hyperparameters. The defaults train an expert for t2-nano in 25 to 40 steps; `options_for`
    has those for other base models.

    The authors of the paper use Adam at 2e-3 with the gradient's norm clipped at 1e-3; here z
    itself is the parameter (they train its logit), which bears a ten times higher rate.

    Attributes:
        learning_rate: Adam's, for z.
        kl: weight of KL(adapted || base) per token; 0 skips the base model's pass.
        prompts: prompts per batch.
        accumulate: batches per step, of which one update is made.
        warmup: steps over which the learning rate rises from 0.
        schedule: of the learning rate after that: "constant", or falling to 0 at the last step,
            "linear" or as half a "cosine". Each method of "sft+reinforce" has its own.
        sft_steps: most steps of next-token training in "sft+reinforce"; None: half of them.
        samples: replies sampled for each prompt (reinforce only).
        temperature: of the sampled policy, which is also the one that is trained.
        baseline: "group" takes from each reward the mean of the prompt's other replies;
            "none" takes nothing, as in the paper.
        max_tokens: longest reply; None takes the task's own ``max_tokens``, else half as much
            again as the longest reply that is wanted of the training examples, and 128 where the
            examples hold answers only, which a reply leads up to.
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
        memory: the most that the process (on a GPU: its tensors there) may hold while passes of
            training run, in bytes or as "2GB"; None leaves half of what is free unused.
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
    accumulate: Count = 1
    warmup: CountOrZero = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    sft_steps: Count | None = None
    memory: Annotated[Count | StrictStr | None, needs("bytes, or a size such as '2GB'")] = None
    evenness: NotNegative = 0.0

    def __post_init__(self) -> None:
        if self.memory is not None:
            bytes_of(self.memory)
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
        del plain["memory"]  # a run may go on on another machine
        return {
            name: value
            for name, value in plain.items()
            if name not in _YOUNGER or value != _YOUNGER[name]
        }


class Scale(NamedTuple):
    """What defaults go by: the base model's parameters, the examples to train on (None: without
    end), and the tokens of the longest reply that is wanted of them (None: not known)."""

    parameters: int
    examples: int | None = None
    reply: int | None = None


def options_for(
    objective: str, hyper: Mapping[str, Any], scale: Scale | None = None
) -> TrainOptions:
    """The options of next-token training or REINFORCE: defaults, overridden by ``hyper``.

    scale: what the defaults suit; t2-nano without it.

    Raises:
        ConfigError: an unknown method, an unknown name, or a value outside its range.
    """
    if objective not in _BY_OBJECTIVE:
        raise ConfigError(f"got the method {objective!r}; needed one of {', '.join(METHODS)}")
    suited = {} if scale is None else _suited(objective, scale)
    return TrainOptions(**{**_BY_OBJECTIVE[objective], **suited, **hyper})


def objectives_of(
    method: str, hyper: Mapping[str, Any], scale: Scale | None = None
) -> dict[Objective, TrainOptions]:
    """What a method does one after the other, with the options of each.

    Of "sft+reinforce", ``hyper`` holds for both, but what concerns sampled replies (`_SAMPLED`)
    for REINFORCE alone. "auto" may come to any of them, so it has those of both.

    Raises:
        ConfigError: as `options_for`.
    """
    if method not in ("auto", "sft+reinforce"):
        return {cast(Objective, method): options_for(method, hyper, scale)}
    of_first = {name: value for name, value in hyper.items() if name not in _SAMPLED}
    return {
        "sft": options_for("sft", of_first, scale),
        "reinforce": options_for("reinforce", hyper, scale),
    }


_SMALL = 20_000_000
"""Parameters of a base model up to which t2-nano's defaults hold."""


def _suited(objective: str, scale: Scale) -> dict[str, Any]:
    """Defaults for a base model and a task, where they are not t2-nano's.

    | parameters | prompts, next token | prompts x samples, REINFORCE | rows |
    |---|---|---|---|
    | up to 20 million, as t2-nano | 64 | 32 x 4 | 128 |
    | more | 16 | 8 x 8 | 32, of replies up to 128 tokens; 16 of longer ones |

    A larger model learns more from an example and takes longer for it, and is more often right or
    wrong in all of a few samples. Its step has no more prompts than there are examples.
    """
    if scale.parameters <= _SMALL:
        return {}
    prompts = 16 if objective == "sft" else 8
    return {
        "prompts": prompts if scale.examples is None else min(prompts, scale.examples),
        "rows": 32 if (scale.reply or 0) <= 128 else 16,
        **({} if objective == "sft" else {"samples": 8}),
    }
