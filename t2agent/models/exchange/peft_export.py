"""An expert, or a mixture, as a LoRA adapter in PEFT's format.

W' = W + B A with B (m x k) and A (k x n) from `t2agent.svf.low_rank`; lora_alpha = r, so that
PEFT and vLLM scale by 1. All layers have the same r, with zeros where fewer directions move: PEFT
would take a rank for each layer, vLLM reads only one.

Sources: LoRA, arXiv 2106.09685; PEFT, `peft.tuners.lora`.

Shared layers cannot be exported, nor those that PEFT does not take.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.models.exchange.records import (
    README_FILE,
    LayerError,
    LoraExport,
    check_free,
    export_folder,
    lora_card,
    title,
    vllm_support,
    write_record,
)
from t2agent.paths import public_name
from t2agent.progress import progress_bar
from t2agent.svf import layer
from t2agent.svf.low_rank import low_rank, moved, rounding, sharpened

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

    from t2agent.experts.expert import MixtureLike
    from t2agent.models.exchange.adaptable import Adaptable

WEIGHTS_FILE = "adapter_model.safetensors"
DEFAULT_RANK = 64

PREFIX = "base_model.model."
"""PEFT's, before every name in its file."""
_DTYPES = ("float32", "bfloat16", "float16")


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
            but `DEFAULT_RANK` at most.
        dtype: of the file, "float32", "bfloat16" or "float16"; rounding counts as error.
        name: on the card; None takes that of an only expert, or "mixture".
        progress: whether to show a bar.

    Raises:
        ConfigError: the rank is no whole number between 1 and the longest z, the folder holds
            something else, or PEFT cannot adapt exactly the layers that change.
        ExpertError: the expert is unknown, or not for this base model.
    """
    kind = _dtype(dtype)
    check_free(folder)
    mixture, experts = model.resolve(what)
    name = name or title(mixture)
    with model.merged(None):  # the base weights, and nobody else's hands on them
        model.decompose(progress=progress)
        deltas = _deltas(model, what)
        names = list(deltas)
        check_alone(model.model, {each: model.targets.layers[each] for each in names})
        needed, rank = _ranks(model, deltas, rank)
        config = _config(model, names, rank)
        tensors, layers, error = _tensors(model, deltas, rank, kind, progress)
    with export_folder(folder) as temporary:
        config.save_pretrained(str(temporary))
        save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        report = LoraExport(
            Path(folder),
            name,
            mixture,
            rank,
            needed,
            error,
            layers,
            str(kind).removeprefix("torch."),
            (temporary / WEIGHTS_FILE).stat().st_size,
            vllm_support(
                rank,
                vision=model.targets.vision & deltas.keys(),
                transposed=any(isinstance(model.targets.layers[n], Conv1D) for n in names),
            ),
        )
        (temporary / README_FILE).write_bytes(lora_card(model, experts, report).encode())
        write_record(temporary, "lora", report.to_dict())
    return report


def _dtype(given: torch.dtype | str) -> torch.dtype:
    for each in _DTYPES:
        kind: torch.dtype = getattr(torch, each)
        if given in (each, kind):
            return kind
    raise ConfigError(f"dtype is {given!r}; give {', '.join(map(repr, _DTYPES))}")


def _deltas(model: Adaptable, what: MixtureLike) -> dict[str, Tensor]:
    """The layers that change, in the model's order; all of them where none does."""
    changed = {each: delta for each, delta in model.deltas(what).items() if bool(delta.any())}
    if changed:
        return changed
    return {each: torch.zeros(size) for each, size in model.shapes.items()}


def _ranks(model: Adaptable, deltas: Mapping[str, Tensor], rank: int | None) -> tuple[int, int]:
    """The smallest exact rank, and the one to take."""
    needed = max(moved(model.bases[name], delta) for name, delta in deltas.items())
    if rank is None:
        return needed, max(1, min(needed, DEFAULT_RANK))
    largest = max(model.shapes.values())
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= largest:
        raise ConfigError(
            f"rank is {rank!r}; give a whole number from 1 to {largest}, the most directions that "
            f"a layer of {model.name} has ({needed} are enough to be exact here)"
        )
    return needed, rank


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


def _tensors(
    model: Adaptable,
    deltas: Mapping[str, Tensor],
    rank: int,
    dtype: torch.dtype,
    progress: bool,
) -> tuple[dict[str, Tensor], tuple[LayerError, ...], float]:
    """PEFT's state dict, the error of each layer and that of all together."""
    tensors: dict[str, Tensor] = {}
    layers: list[LayerError] = []
    squares, total = 0.0, 0.0
    with progress_bar("Exporting layers", len(deltas), enabled=progress) as bar:
        for name, delta in deltas.items():
            with layer.read(model.targets.layers[name], name) as (weight, _):
                basis = sharpened(weight, model.bases[name])
                change = low_rank(weight, basis, delta, rank)
            left = math.hypot(change.left, rounding(change.b, change.a, dtype))
            error = left / change.norm if change.norm else 0.0
            layers.append(LayerError(name, change.moved, change.b.shape[1], error))
            squares, total = squares + left**2, total + change.norm**2
            m, n = change.b.shape[0], change.a.shape[1]
            b, a = torch.zeros(m, rank, dtype=dtype), torch.zeros(rank, n, dtype=dtype)
            b[:, : change.b.shape[1]] = change.b.to(dtype)
            a[: change.a.shape[0]] = change.a.to(dtype)
            if not bool(torch.isfinite(b).all() and torch.isfinite(a).all()):
                raise ConfigError(f"the change of {name} is too large for {dtype}; give 'float32'")
            tensors[f"{PREFIX}{name}.lora_A.weight"] = a
            tensors[f"{PREFIX}{name}.lora_B.weight"] = b
            bar.advance()
    return tensors, tuple(layers), math.sqrt(squares / total) if total else 0.0


def check_alone(
    model: nn.Module, layers: Mapping[str, nn.Module], *, weights: bool = False
) -> None:
    """Raise ConfigError where a layer has a second name, or its weight another owner.

    PEFT replaces a module under one of its names only, and a checkpoint holds a shared weight once.

    Args:
        model: the whole model.
        layers: name -> module.
        weights: whether shared weights matter, and not only shared modules.
    """
    names = {id(module): name for name, module in layers.items()}
    for other, module in model.named_modules(remove_duplicate=False):
        if (own := names.get(id(module))) is not None and other != own:
            raise ConfigError(
                f"{own} is {other} as well, one module in two places, which an export cannot "
                "express; use the expert with t2agent"
            )
    if not weights:
        return
    owned = {id(module._parameters["weight"]): name for name, module in layers.items()}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        own = owned.get(id(parameter))
        if own is not None and other != f"{own}.weight":
            raise ConfigError(
                f"the weight of {own} is that of {other} as well, which a checkpoint holds once: "
                "the other would change, too; export with format 'lora'"
            )


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
