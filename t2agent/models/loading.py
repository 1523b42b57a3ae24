"""Loading a base model and what reads its input, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from t2agent.errors import ConfigError
from t2agent.paths import bundled, is_path

NANO = "t2-nano"


def source(name: str) -> str:
    """Where the base model of that name is loaded from: "t2-nano" lies inside the package."""
    if name != NANO:
        if is_path(name) and not Path(name).expanduser().is_dir():
            raise ConfigError(
                f"cannot load the base model {name!r}: there is no such folder; give a "
                f"checkpoint's folder, a name on the Hub such as 'Qwen/Qwen2-0.5B', or {NANO!r}"
            )
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
    revision: str | None,
    device_map: Any,
    dtype: Any,
    quantization_config: Any,
    cache_dir: Path | str | None,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor (tokenizer, for text), as the Hugging Face classes load them.

    Raises ConfigError where there is no such model, or it is of a class that does not generate.
    """
    place = source(name)
    if isinstance(dtype, str) and dtype != "auto":
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype):
            raise ConfigError(f"dtype is {dtype!r}; give 'auto', 'bfloat16' or another of torch's")
    common: dict[str, Any] = {
        "revision": revision or "main",
        "cache_dir": cache_dir,
        "trust_remote_code": trust_remote_code,
    }
    extra = {} if quantization_config is None else {"quantization_config": quantization_config}
    try:
        config = AutoConfig.from_pretrained(place, **common)
        vision = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if vision:
            auto: Any = AutoModelForImageTextToText
            # The PIL processors need no torchvision.
            processor = AutoProcessor.from_pretrained(place, backend="pil", **common)
        else:
            auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            processor = AutoTokenizer.from_pretrained(place, **common)
        model = auto.from_pretrained(place, device_map=device_map, dtype=dtype, **common, **extra)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the base model {name!r}: {error}") from error
    return model, processor
