"""An expert, or a mixture, as a LoRA adapter in PEFT's format.

The matrices are those of `factors`; lora_alpha = r, so that PEFT and vLLM scale by 1.

Source: PEFT, `peft.tuners.lora`.

Shared layers cannot be exported, nor those that PEFT does not take.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.models.exchange.factors import factors
from t2agent.models.exchange.records import (
    README_FILE,
    LoraExport,
    check_free,
    export_folder,
    lora_card,
    title,
    vllm_support,
    write_record,
)
from t2agent.paths import public_name

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

    from t2agent.experts.expert import MixtureLike
    from t2agent.models.exchange.adaptable import Adaptable

WEIGHTS_FILE = "adapter_model.safetensors"

PREFIX = "base_model.model."
"""PEFT's, before every name in its file."""


def export_lora(
    model: Adaptable,
    what: MixtureLike,
    folder: Path | str,
    *,
    rank: int | None = None,
    dtype: torch.dtype | str = "float32",
    name: str | None = None,
    progress: bool = True,
) -> LoraExport:
    """Write a PEFT folder that does to the base model what `model.adapted(what)` does.

    Args:
        model: the base model.
        what: the expert or mixture, by layers too.
        folder: where to write: a new or empty folder, or that of an earlier export.
        rank: of the adapter. It is exact where no layer has more directions that move, otherwise
            the best approximation, whose error the report gives. None: the smallest exact rank,
            but `factors.DEFAULT_RANK` at most.
        dtype: of the file, "float32", "bfloat16" or "float16"; rounding counts as error.
        name: on the card; None takes that of an only expert, or "mixture".
        progress: whether to show a bar.

    Raises:
        ConfigError: the rank is no whole number between 1 and the longest z, the folder holds
            something else, or PEFT cannot adapt exactly the layers that change.
        ExpertError: the expert is unknown, or not for this base model.
    """
    check_free(folder)
    mixture, experts = model.resolve(what)
    name = name or title(mixture)
    with model.merged(None):  # the base weights, and nobody else's hands on them
        made = factors(model, what, rank, dtype, progress)
        config = _config(model, list(made.pairs), made.rank)
    tensors: dict[str, Tensor] = {}
    for each, (b, a) in made.pairs.items():
        tensors[f"{PREFIX}{each}.lora_A.weight"] = a
        tensors[f"{PREFIX}{each}.lora_B.weight"] = b
    with export_folder(folder) as temporary:
        config.save_pretrained(str(temporary))
        save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        report = LoraExport(
            name,
            mixture,
            made.rank,
            made.needed,
            made.error,
            made.layers,
            str(made.dtype).removeprefix("torch."),
            (temporary / WEIGHTS_FILE).stat().st_size,
            Path(folder),
            vllm_support(
                made.rank,
                vision=model.targets.vision & made.pairs.keys(),
                transposed=any(isinstance(model.targets.layers[n], Conv1D) for n in made.pairs),
            ),
        )
        (temporary / README_FILE).write_bytes(lora_card(model, experts, report).encode())
        write_record(temporary, "lora", report.to_dict())
    return report


def _config(model: Adaptable, names: list[str], rank: int) -> LoraConfig:
    """PEFT's configuration, which names the layers in full."""
    from peft import LoraConfig, TaskType

    seq2seq = model.model.config.is_encoder_decoder
    config = LoraConfig(
        base_model_name_or_path=public_name(model.name),
        task_type=TaskType.SEQ_2_SEQ_LM if seq2seq else TaskType.CAUSAL_LM,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=names,
        fan_in_fan_out=all(isinstance(model.targets.layers[n], Conv1D) for n in names),
    )
    check_adapted(model.model, config, names)
    config.target_modules = sorted(names)  # PEFT makes a set of them, which has no order
    return config


def check_adapted(model: PreTrainedModel, config: LoraConfig, names: Collection[str]) -> None:
    """Raise ConfigError unless PEFT puts its layers exactly where the configuration means them.

    PEFT is asked, with a twin of the model that has no weights: it refuses some layers of some
    architectures, and takes every module whose name ends like one that is named.

    Args:
        model: the whole model.
        config: of the adapter.
        names: the layers that it is for.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = type(model)(copy.deepcopy(model.config))
        try:
            inject_adapter_in_model(copy.deepcopy(config), twin)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"PEFT does not adapt all of these layers: {error} Export with format 'merged'."
            ) from error
    found = {name for name, module in twin.named_modules() if isinstance(module, BaseTunerLayer)}
    if found != set(names):
        raise ConfigError(
            f"PEFT would adapt {min(found ^ set(names))} otherwise than t2agent; export with "
            "format 'merged'"
        )
