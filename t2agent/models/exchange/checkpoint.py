"""An expert, or a mixture, written into the weights: a full checkpoint for stock transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t2agent.errors import ConfigError
from t2agent.models.exchange.factors import check_alone
from t2agent.models.exchange.records import (
    README_FILE,
    MergedExport,
    check_free,
    export_folder,
    merged_card,
    title,
    write_record,
)
from t2agent.progress import no_transformers_bars, progress_bar
from t2agent.svf.layer import is_offloaded

if TYPE_CHECKING:
    from t2agent.experts.expert import MixtureLike
    from t2agent.models.exchange.adaptable import Adaptable

_STEPS = 3


def export_merged(
    model: Adaptable,
    what: MixtureLike,
    folder: Path | str,
    *,
    name: str | None = None,
    progress: bool = True,
) -> MergedExport:
    """Write a checkpoint of the adapted model: weights, configuration, processor and card.

    The weights have the base model's dtype. The model itself is the same afterwards, bit for bit.

    Args:
        model: the base model; its weights must be plain, neither quantised nor offloaded.
        what: the expert or mixture, by layers too.
        folder: where to write: a new or empty folder, or that of an earlier export.
        name: on the card; None takes that of an only expert, or "mixture".
        progress: whether to show a bar.

    Raises:
        ConfigError: the weights cannot be written, a layer that changes shares its weight, or the
            folder holds something else.
        ExpertError: the expert is unknown, or not for this base model.
    """
    check_free(folder)
    _check_plain(model)
    mixture, experts = model.resolve(what)
    name = name or title(mixture)
    model.decompose(progress=progress)
    deltas = model.deltas(what)
    changed = {n: model.targets.layers[n] for n in model.shapes if n in deltas and deltas[n].any()}
    check_alone(model.model, changed, weights=True)
    with (
        export_folder(folder) as temporary,
        progress_bar("Writing a checkpoint", _STEPS, enabled=progress) as bar,
        model.merged(what, keep=False),
    ):
        bar.advance()
        _save(model, temporary)
        bar.advance()
        report = MergedExport(
            Path(folder),
            name,
            mixture,
            tuple(changed),
            str(model.model.dtype).removeprefix("torch."),
            sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file()),
        )
        (temporary / README_FILE).write_bytes(merged_card(model, experts, report).encode())
        write_record(temporary, "merged", report.to_dict())
        bar.advance()
    return report


def _check_plain(model: Adaptable) -> None:
    """Raise ConfigError where a checkpoint would not hold the weights as they are computed with."""
    if getattr(model.model, "is_quantized", False) or not model.writable:
        raise ConfigError(
            f"{model.name} has quantised or offloaded weights, into which nothing can be merged: "
            "load it in float32 or bfloat16 in memory, or export with format 'lora'"
        )
    for each, module in model.model.named_modules():
        if is_offloaded(module) or any(p.is_meta for p in module.parameters(recurse=False)):
            raise ConfigError(
                f"{each} of {model.name} is offloaded: load the model into memory, or export with "
                "format 'lora'"
            )


def _save(model: Adaptable, folder: Path) -> None:
    hf = model.model
    kept = dict(vars(hf.config))  # transformers notes dtype and class there
    try:
        with no_transformers_bars():  # beside ours
            hf.save_pretrained(folder)
        model.processor.save_pretrained(folder)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            f"transformers cannot save {model.name}: {error}; export with format 'lora'"
        ) from error
    finally:
        vars(hf.config).clear()
        vars(hf.config).update(kept)
