"""Loading a base model and what reads its input, by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as hf_logging

from t2agent.errors import ConfigError
from t2agent.paths import bundled, check_there, is_path
from t2agent.progress import no_transformers_bars

NANO = "t2-nano"


def source(name: str) -> str:
    """Where the base model of that name is loaded from: "t2-nano" lies inside the package."""
    if name != NANO:
        check_there(name)
        return str(Path(name).expanduser()) if is_path(name) else name
    folder = bundled("experts") / NANO / "base"
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"the embedded base model {NANO} is missing from {folder}: install t2agent anew, or "
            "train it with python -m t2agent.nano.pretrain"
        )
    return str(folder)


def load(
    name: str, *, device_map: Any, dtype: Any, quantization_config: Any, **common: Any
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor (tokenizer, for text), as the Hugging Face classes load them.

    common: further options, which the config and the processor are loaded with as well.

    Raises ConfigError where there is no such model, it is of a class that does not generate, its
    files are damaged or lack weights, or what it needs (a package, a device) is not there.
    """
    place = source(name)
    if isinstance(dtype, str) and dtype != "auto":
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype):
            raise ConfigError(f"dtype is {dtype!r}; give 'auto', 'bfloat16' or another of torch's")
    extra = {} if quantization_config is None else {"quantization_config": quantization_config}
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(place, **common)
            vision = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            if vision:
                auto: Any = AutoModelForImageTextToText
                # The PIL processors need no torchvision.
                processor = AutoProcessor.from_pretrained(place, backend="pil", **common)
            else:
                auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
                processor = AutoTokenizer.from_pretrained(place, **common)
            model, report = auto.from_pretrained(
                place,
                device_map=device_map,
                dtype=dtype,
                output_loading_info=True,
                **common,
                **extra,
            )
    # Files of strangers: what the libraries below raise about them has no common type.
    except Exception as error:
        raise ConfigError(f"cannot load the base model {name!r}: {_cause(error)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ConfigError(
            f"the checkpoint of {name!r} lacks {len(missing)} of the weights that a "
            f"{type(model).__name__} has ({missing[0]}, ...), and they would be random: get the "
            "whole checkpoint, or mend the model's class in its config.json"
        )
    return model, processor


def _cause(error: Exception) -> str:
    """What went wrong, and what to do where that is known."""
    told = " ".join(str(error).split())
    if not isinstance(error, OSError | ValueError):
        told = f"{type(error).__name__}: {told}"  # a KeyError's text is a key
    if isinstance(error, ImportError):
        return f"a package that it needs is not installed: {told}"
    if isinstance(error, SafetensorError):
        return f"a file of weights is damaged or cut short ({told}); get it again"
    if "CUDA" in told and not torch.cuda.is_available():
        return f"PyTorch finds no CUDA device here ({told}); give device_map=None or 'cpu'"
    if "ignore_mismatched_sizes" in told:
        return (
            f"weights have other sizes than config.json says ({told:.500}); get both files from "
            "one checkpoint"
        )
    return told


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers warns of what is raised here anyway, and draws bars where nobody sees them."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        with no_transformers_bars(not sys.stderr.isatty()):
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
