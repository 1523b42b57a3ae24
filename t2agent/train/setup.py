"""What has to hold before the first step: devices, modality, a base that stays as it is, and which
of its layers are trained.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import GenerationConfig, PreTrainedModel

from t2agent.errors import ConfigError, ModalityError
from t2agent.experts.card import Modality, Step
from t2agent.models.installed import NANO
from t2agent.models.model import T2Model
from t2agent.models.precision import has_bfloat16_units
from t2agent.models.prompt import Prompt
from t2agent.replies.messages import asks_json, calls_so_far
from t2agent.replies.options import offered_options
from t2agent.svf.targets import choose
from t2agent.tasks.task import Example
from t2agent.train.options import TrainOptions
from t2agent.train.trackers import Trackers


def start_accelerator(
    model: T2Model, options: TrainOptions, trackers: Trackers = (), logs: Path | None = None
) -> Accelerator:
    """The device and processes of this training, as the process was launched.

    trackers: what `begin_reports` will start, with ``logs`` for their files.

    Raises:
        ConfigError: accelerate runs on another device already, or in a precision that is too
            coarse; or there are more processes than prompts in a step.
    """
    try:
        accelerator = Accelerator(
            cpu=model.device.type == "cpu", log_with=list(trackers) or None, project_dir=logs
        )
    except ValueError as error:
        raise ConfigError(
            f"accelerate cannot train on {model.device}: {error}; load the base model on the "
            "device that accelerate was started with"
        ) from error
    if accelerator.mixed_precision == "fp16":
        raise ConfigError("mixed precision 'fp16' loses small gradients of z; use 'bf16' or 'no'")
    if options.prompts < accelerator.num_processes:
        raise ConfigError(
            f"prompts is {options.prompts} for {accelerator.num_processes} processes; "
            "give each process at least one prompt per step"
        )
    return accelerator


def autocast(accelerator: Accelerator, options: TrainOptions) -> AbstractContextManager[None]:
    """The precision of the options for this training alone.

    accelerate holds one setting per process; with "auto" it is taken where it says anything.
    """
    if options.mixed_precision == "auto" and accelerator.mixed_precision != "no":
        launched: AbstractContextManager[None] = accelerator.autocast()
        return launched
    device = accelerator.device.type
    wanted = options.mixed_precision == "bf16"
    if options.mixed_precision == "auto":
        wanted = has_bfloat16_units(device)
    return torch.autocast(device, torch.bfloat16, enabled=wanted)


def modality_of(model: T2Model, examples: Sequence[Example]) -> Modality:
    """ "image" where an example has one.

    Raises:
        ModalityError: there are images, and the model reads text only.
    """
    if all(example.image is None for example in examples):
        return "text"
    if "image" not in model.modalities:
        raise ModalityError(
            f"the task has images, but {model.name} reads text only; "
            f"use a vision-language model, such as {NANO}, which comes with t2agent"
        )
    return "image"


def step_of(examples: Sequence[Example]) -> Step:
    """The step of a conversation that most examples are at, for the expert's card.

    "labels" where they offer labels, the answer among them, and not mostly the same ones: of an
    expert for its own labels, the texts tell what it is for.
    """
    steps = Counter(map(_step, examples))
    step = steps.most_common(1)[0][0]
    if step == "labels":
        offers = Counter(frozenset(_offer(example)) for example in examples)
        return "text" if 2 * offers.most_common(1)[0][1] > len(examples) else step
    return step


def _step(example: Example) -> Step:
    messages = Prompt.of(example).messages
    if calls_so_far(messages):
        return "results"
    if example.tools:
        return "calls"
    if asks_json(messages):
        return "json"
    return "labels" if _offer(example) else "text"


def _offer(example: Example) -> tuple[str, ...]:
    """The options that a request offers, the answer among them; () where it offers none."""
    answer = example.answer.strip().casefold()
    offers = (one.options for one in offered_options(example.prompt))
    return next((o for o in offers if answer in (option.casefold() for option in o)), ())


@contextmanager
def frozen_base(hf: PreTrainedModel) -> Iterator[None]:
    """Inside, no base parameter takes a gradient and dropout is off; after, all is as before."""
    needed = [parameter for parameter in hf.parameters() if parameter.requires_grad]
    training = [module for module in hf.modules() if module.training]
    try:
        for parameter in needed:
            parameter.requires_grad_(False)
        hf.eval()
        yield
    finally:
        for parameter in needed:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


@contextmanager
def plain_sampling(hf: PreTrainedModel) -> Iterator[None]:
    """Inside, `generate` draws from the model's own distribution, the one that is trained.

    Penalties and banned tokens of the checkpoint's generation config would make the replies those
    of another policy than the log-probabilities belong to.
    """
    config = hf.generation_config
    hf.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        cache_implementation=config.cache_implementation,
    )
    try:
        yield
    finally:
        hf.generation_config = config


_SHOWN = 4


def chosen_layers(model: T2Model, modules: str) -> tuple[str, ...]:
    """Names of the layers of ``model.targets`` that ``modules`` names, in their order.

    modules: "all"; "attention" or "mlp" (of the language part); or a regular expression that is
    searched for in the names.

    Raises:
        ConfigError: there are none.
    """
    layers = tuple(model.targets.layers)
    if modules == "all":
        return layers
    if modules in ("attention", "mlp"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be adapted was named when it was loaded
            inside = choose(model.model, modules).layers
        found = tuple(name for name in layers if name in inside)
    else:
        found = tuple(name for name in layers if re.search(modules, name))
    if not found:
        raise ConfigError(
            f"modules={modules!r} matches none of the {len(layers)} adapted layers of "
            f"{model.name}, such as {', '.join(layers[:_SHOWN])}; give 'all', 'attention', 'mlp' "
            "or a regular expression on these names"
        )
    return found
