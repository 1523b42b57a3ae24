"""Loading a base model and what reads its input, by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, get_session
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
)
from transformers.utils import logging as hf_logging
from transformers.utils.hub import cached_file

from t2agent.errors import ConfigError
from t2agent.experts.hub import is_unreachable
from t2agent.models import gguf, installed
from t2agent.models.installed import NANO
from t2agent.models.precision import widen
from t2agent.paths import bundled, check_there, is_gguf, is_path
from t2agent.progress import no_transformers_bars


def source(name: str) -> str:
    """Where the base model of that name is loaded from: "t2-nano" lies inside the package."""
    if (found := installed.place(name, load_gguf)) is not None:
        return str(found)
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
    name: str,
    *,
    device_map: Any,
    dtype: Any,
    quantization_config: Any,
    gguf_file: str | None = None,
    **common: Any,
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor (tokenizer, for text), as the Hugging Face classes load them.

    gguf_file: the GGUF file in the folder or repository; a name that is one's path needs none.
        Without a ``quantization_config`` of transformers, its weights are dequantised.
    dtype: "auto" is that of the checkpoint, for a GGUF file bfloat16; see `precision.widen` for
        processors that have no bfloat16.
    common: further options, which the config and the processor are loaded with as well.

    Raises ConfigError where there is no such model, it is of a class that does not generate, its
    files are damaged or lack weights, or what it needs (a package, a device) is not there.
    """
    place = source(name)
    if place == name and not is_path(name) and not _hub_answers():
        common["local_files_only"] = True
    if is_gguf(place):
        if gguf_file is not None:
            raise ConfigError(f"{name!r} is a GGUF file itself: leave out gguf_file={gguf_file!r}")
        place, gguf_file = str(Path(place).parent), Path(place).name
    rule = None
    if gguf_file is not None:
        common["gguf_file"] = gguf_file
        rule = gguf.checked_rule(_gguf_path(place, gguf_file, common))
    if isinstance(dtype, str) and dtype != "auto":
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype):
            raise ConfigError(f"dtype is {dtype!r}; give 'auto', 'bfloat16' or another of torch's")
    widens = dtype == "auto" and quantization_config is None
    if gguf_file is not None:
        quantization_config = quantization_config or GgufConfig(dequantize=True)
        dtype = torch.bfloat16 if dtype == "auto" else dtype
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
    if rule is not None:
        gguf.split_as(processor, rule)
    if widens and getattr(config, "quantization_config", None) is None:
        widen(model)
    return model, processor


def dequantised_file(name: str, gguf_file: str | None, common: Mapping[str, Any]) -> Path | None:
    """The GGUF file of which `load` dequantised a base model's weights, now or when it was
    installed; None where there is none. Arguments as of `load`."""
    place = source(name)
    if is_gguf(place):
        return Path(place)
    return (
        installed.gguf(Path(place))
        if gguf_file is None
        else _gguf_path(place, gguf_file, {**common, "local_files_only": True})
    )


def load_gguf(file: Path) -> tuple[PreTrainedModel, Any]:
    """The model and tokenizer of a GGUF file, dequantised to bfloat16. Raises as `load`."""
    return load(str(file), device_map=None, dtype=torch.bfloat16, quantization_config=None)


def _gguf_path(place: str, file: str, common: Mapping[str, Any]) -> Path:
    """Where a GGUF file lies, taken from the Hub if need be."""
    known = ("revision", "cache_dir", "local_files_only")
    options = {name: common[name] for name in known if name in common}
    try:
        found = cached_file(place, file, **options)
    except OSError as error:
        raise ConfigError(
            f"cannot load the base model {place!r}: no GGUF file {file!r} there ({_cause(error)})"
        ) from error
    return Path(str(found))


def _hub_answers() -> bool:
    """Whether the Hub can be reached: asked once, since without it the libraries that load would
    try each file again for half a minute, those that the cache has as well."""
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - others are for what loads to tell
        return not is_unreachable(error)
    return True


def _cause(error: Exception) -> str:
    """What went wrong, and what to do where that is known."""
    told = " ".join(str(error).split())
    if not isinstance(error, OSError | ValueError):
        told = f"{type(error).__name__}: {told}"  # a KeyError's text is a key
    if isinstance(error, ImportError):
        return f"a package that it needs is not installed: {told}"
    if isinstance(error, SafetensorError):
        return f"a file of weights is damaged or cut short ({told}); get it again"
    if "huggingface.co" in told or "`model_type` key" in told:
        return (
            f"{told.rstrip('.'):.500}. Give a checkpoint's folder with a config.json, a GGUF file, "
            "a name on the Hub such as 'Qwen/Qwen2-0.5B', or one that `t2agent models list` shows"
        )
    if "GGUF model with architecture" in told:
        return f"{told} Take the model's original files (safetensors) instead"
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
    unseen = not sys.stderr.isatty()
    try:
        with no_transformers_bars(unseen), gguf.no_bars(unseen):
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
