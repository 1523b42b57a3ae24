"""What has to hold before the first step: devices, modality, a base that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from accelerate import Accelerator
from transformers import PreTrainedModel

from t2agent.card import Modality
from t2agent.errors import ConfigError, ModalityError
from t2agent.model import T2Model
from t2agent.train.options import TrainOptions
from t2agent.train.task import Example


def start_accelerator(model: T2Model, options: TrainOptions) -> Accelerator:
    """The device, precision and processes of this training.

    Raises:
        ConfigError: accelerate runs with another precision already, or with one that is too
            coarse; or there are more processes than prompts in a step.
    """
    try:
        accelerator = Accelerator(
            mixed_precision=options.mixed_precision, cpu=model.device.type == "cpu"
        )
    except ValueError as error:
        raise ConfigError(
            f"mixed_precision={options.mixed_precision!r} cannot be used: {error}; accelerate "
            "keeps one setting per process: set it at the first training, or leave it out"
        ) from error
    if accelerator.mixed_precision == "fp16":
        raise ConfigError("mixed precision 'fp16' loses small gradients of z; use 'bf16' or 'no'")
    if options.prompts < accelerator.num_processes:
        raise ConfigError(
            f"prompts is {options.prompts} for {accelerator.num_processes} processes; "
            "give each process at least one prompt per step"
        )
    return accelerator


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
            "use a vision-language model such as t2-nano"
        )
    return "image"


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
