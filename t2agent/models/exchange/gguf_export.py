"""An expert, or a mixture, as a LoRA adapter for llama.cpp, in one GGUF file.

The file is what llama.cpp's own `convert_lora_to_gguf.py` makes of the PEFT adapter: tensors
``blk.N.attn_q.weight.lora_a`` (rank, n) and ``.lora_b`` (m, rank), and adapter.lora.alpha = r, so
that an adapter's scale is its weight in a mixture. llama.cpp rotates other pairs of numbers than
transformers: in GGUF files of Llama's architecture the rows of W_q and W_k lie in another order,
and so do those of their B.

Beside that the file tells what it is, which llama.cpp shows and does not need: t2agent.mixture,
t2agent.rank_needed and t2agent.error.

Source: llama.cpp, `convert_lora_to_gguf.py`, `conversion/llama.py` and `src/llama-adapter.cpp`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from t2agent.errors import ConfigError
from t2agent.files import replace_file
from t2agent.models.exchange.factors import Factors, factors
from t2agent.models.exchange.records import GgufExport, title

if TYPE_CHECKING:
    from t2agent.experts.expert import MixtureLike
    from t2agent.models.exchange.adaptable import Adaptable

_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "granite": "granite",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
"""transformers' name of a kind of model -> llama.cpp's."""
_PERMUTED = frozenset({"llama", "granite"})
_OURS = b"t2agent.mixture"
_HEAD = 2**16  # bytes in which the metadata of an adapter lie


def export_gguf(
    model: Adaptable,
    what: MixtureLike,
    file: Path | str,
    *,
    rank: int | None = None,
    dtype: torch.dtype | str = "float32",
    name: str | None = None,
    progress: bool = True,
) -> GgufExport:
    """Write a GGUF adapter that does to the base model in llama.cpp what `model.adapted` does here.

    Args:
        model: the base model, of a kind that llama.cpp has: Llama, Mistral, Granite, Qwen 2 and 3,
            Gemma 2 and 3, Phi 3.
        what: the expert or mixture, by layers too.
        file: where to write: a new file that ends in .gguf, or an earlier export, which is
            replaced.
        rank, dtype, name, progress: as of `export_lora`.

    Raises:
        ConfigError: as `export_lora`, for a kind of model that is not written, or where the package
            gguf is not installed.
        ExpertError: the expert is unknown, or not for this base model.
    """
    target = check_file(file)
    architecture = _architecture(model)
    mixture, _ = model.resolve(what)
    name = name or title(mixture)
    with model.merged(None):  # the base weights, and nobody else's hands on them
        made = factors(model, what, rank, dtype, progress)
    named = _named(model, architecture, made)
    with replace_file(target) as temporary:
        _write(temporary, architecture, name, json.dumps(mixture.to_dict()), made, named)
    return GgufExport(
        name,
        mixture,
        made.rank,
        made.needed,
        made.error,
        made.layers,
        str(made.dtype).removeprefix("torch."),
        target.stat().st_size,
        target,
        architecture,
    )


def check_file(file: Path | str) -> Path:
    """The path, or ConfigError where it is none of a GGUF file, or writing would lose something."""
    target = Path(file)
    if target.suffix != ".gguf":
        raise ConfigError(f"{target} is no GGUF file by its name; give one that ends in .gguf")
    if target.exists():
        ours = target.is_file()
        if ours:
            with open(target, "rb") as opened:
                ours = _OURS in opened.read(_HEAD)
        if not ours:
            raise ConfigError(
                f"{target} is no earlier export, and would be lost; give a new path, or remove it"
            )
    return target


def _architecture(model: Adaptable) -> str:
    kind = model.model.config.model_type
    if kind not in _ARCHITECTURES:
        raise ConfigError(
            f"{model.name} is of the kind {kind!r}; GGUF adapters are written for "
            f"{', '.join(_ARCHITECTURES)}. Export with format 'lora', and see whether llama.cpp's "
            "convert_lora_to_gguf.py knows it"
        )
    return _ARCHITECTURES[kind]


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ConfigError(
            "a GGUF file is written by the package gguf, which is not installed: "
            "pip install 't2agent[gguf]'"
        ) from error
    return gguf


def _named(
    model: Adaptable, architecture: str, made: Factors
) -> dict[str, tuple[str, Callable[[Tensor], Tensor]]]:
    """Layer -> its weight's name in a GGUF file, and what orders the rows of its B."""
    gguf, config = _gguf(), model.model.config
    [known] = [one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture]
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {}
    for layer in made.pairs:
        there = names.get_name(layer)
        if there is None:
            raise ConfigError(
                f"{layer} of {model.name} has no name in a GGUF file of the architecture "
                f"{architecture}: load the model with targets 'all', or export with format 'lora'"
            )
        part = layer.rpartition(".")[2]
        rotated = architecture in _PERMUTED and part in heads
        order = partial(permuted, heads=heads[part]) if rotated else _same
        found[layer] = f"{there}.weight", order
    return found


def permuted(rows: Tensor, heads: int) -> Tensor:
    """The rows (m, k) of a projection of queries or keys as they lie in GGUF files: the two numbers
    that a position rotates side by side, not half a head apart."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _same(rows: Tensor) -> Tensor:
    return rows


def _write(
    file: Path,
    architecture: str,
    name: str,
    mixture: str,
    made: Factors,
    named: dict[str, tuple[str, Callable[[Tensor], Tensor]]],
) -> None:
    gguf = _gguf()
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(made.rank))
    writer.add_name(name)
    writer.add_string(_OURS.decode(), mixture)
    writer.add_uint32("t2agent.rank_needed", made.needed)
    writer.add_float32("t2agent.error", made.error)
    for layer, (b, a) in made.pairs.items():
        there, order = named[layer]
        for part, matrix in (("a", a), ("b", order(b))):
            data, kind = matrix.contiguous(), None
            if made.dtype == torch.bfloat16:  # NumPy has none
                data, kind = data.view(torch.uint8), gguf.GGMLQuantizationType.BF16
            writer.add_tensor(f"{there}.lora_{part}", data.numpy(), raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
