"""A PEFT LoRA adapter, projected onto the singular directions of the base model's weights.

A LoRA changes W by scale B A, whatever it likes; an expert only stretches W's own directions. Of
the change, the part sum_i delta_i s_i u_i v_i^T with delta_i = u_i^T (scale B A) v_i / s_i is the
nearest that an expert can do (see `t2agent.svf.low_rank.project`). How much of the change that is,
is told: for an adapter that was exported from an expert all of it, for one that was trained freely
mostly little.

The files come from strangers.

Source: PEFT, `peft.tuners.lora.config` and `peft.utils.save_and_load`. Nothing is unpickled; the
pairs B, A are read one at a time, after their shapes have been compared with the layer's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from t2agent.errors import ConfigError, ExpertFormatError, ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert
from t2agent.models.exchange.peft_export import PREFIX, WEIGHTS_FILE
from t2agent.paths import public_name
from t2agent.progress import progress_bar
from t2agent.svf import layer
from t2agent.svf.low_rank import product_norm, project, sharpened

if TYPE_CHECKING:
    from t2agent.models.exchange.adaptable import Adaptable


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What became of the change of one module.

    norm: Frobenius norm of scale B A. share: the part of its square that the expert has, 0 to 1.
    adapted: whether the base model adapts the module at all; where not, all of it is lost.
    """

    name: str
    norm: float
    share: float
    adapted: bool


@dataclass(frozen=True, slots=True)
class LoraImport:
    """An expert made of an adapter, and the share of the adapter's change that it has."""

    expert: Expert
    layers: tuple[LayerShare, ...]

    @property
    def share(self) -> float:
        """Of all modules together: sum of the squares that are kept / sum of all squares."""
        total = math.fsum(each.norm**2 for each in self.layers)
        kept = math.fsum(each.share * each.norm**2 for each in self.layers)
        return kept / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the expert."""
        return {
            "share_kept": self.share,
            "layers": {each.name: each.share for each in self.layers},
            "lost": [each.name for each in self.layers if not each.adapted],
        }


def import_lora(
    folder: Path | str,
    model: Adaptable,
    name: str,
    *,
    description: str = "",
    progress: bool = True,
) -> LoraImport:
    """The expert that is nearest to a LoRA adapter. The folder need not be trusted.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        model: the base model that the adapter was trained for.
        name: of the expert.
        description: on its card.
        progress: whether to show a bar.

    Raises:
        ExpertFormatError: a file is missing or damaged, or the adapter is more than a LoRA.
        ExpertMismatchError: it is for another base model, or changes no layer that is adapted.
    """
    model.decompose(progress=progress)
    z: dict[str, Tensor] = {}
    shares = []
    with (
        opened(folder) as adapter,
        model.merged(None),  # the base weights, and nobody else's hands on them
        progress_bar("Projecting layers", len(adapter.pairs), enabled=progress) as bar,
    ):
        _check(folder, adapter.pairs, adapter.base, model)
        for pair in adapter.pairs:
            b, a = adapter.read(pair)
            module = model.targets.layers.get(pair.module)
            if module is None:
                shares.append(LayerShare(pair.module, product_norm(b, a), 0.0, adapted=False))
            else:
                with layer.read(module, pair.module) as (weight, _):
                    basis = sharpened(weight, model.bases[pair.module])
                    found = project(weight, basis, b, a)
                share = min(1.0, (found.kept / found.norm) ** 2) if found.norm else 1.0
                shares.append(LayerShare(pair.module, found.norm, share, adapted=True))
                z[pair.module] = (1 + found.delta).float().cpu()
            bar.advance()
    card = ExpertCard(
        name, description=description, base=model.name, base_fingerprint=model.fingerprint
    )
    report = LoraImport(Expert(card, z), tuple(shares))
    origin = {"format": "peft", "base": adapter.base, **report.to_dict()}
    return replace(report, expert=report.expert.renamed(name, training={"imported": origin}))


def _check(folder: Path | str, pairs: tuple[Pair, ...], base: str, model: Adaptable) -> None:
    """Raise ExpertMismatchError where the adapter is for another base model."""
    said = f" (it names {base!r:.80})" if base else ""
    hint = f"give the base model that it was trained for{said}"
    for pair in pairs:
        module = model.targets.layers.get(pair.module)
        if module is not None and tuple(layer.shape(module)) != (pair.m, pair.n):
            m, n = layer.shape(module)
            raise ExpertMismatchError(
                f"{folder} changes a weight of {pair.m} x {pair.n} at {pair.module}, but that of "
                f"{model.name} is {m} x {n}: {hint}"
            )
    if not any(pair.module in model.targets.layers for pair in pairs):
        raise ExpertMismatchError(
            f"{folder} changes none of the {len(model.shapes)} layers that {model.name} adapts "
            f"(its first is {pairs[0].module!r:.120}): {hint}, and targets that hold its layers"
        )


CONFIG_FILE = "adapter_config.json"

_MAX_CONFIG_BYTES = 8 * 2**20
_MAX_NAME = 200
_LARGEST = 1e9  # of a rank or alpha
_KEY = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.weight)?")
_COPIES = (".base_layer.weight", ".base_layer.bias")  # the base model's own, beside a LoRA of them
# No quantifiers: a pattern of a stranger's could keep `re` busy for ever.
_PLAIN_PATTERN = re.compile(r"\^?[\w.\\-]+\$?")
_DTYPES = ("F64", "F32", "F16", "BF16")
# What makes an adapter more than W + scale B A on the base model's own weights.
_OTHER_KINDS = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "modules_to_save", "layer_replication",
    "target_parameters", "alora_invocation_tokens", "trainable_token_indices", "velora_config",
    "monteclora_config", "arrow_config", "kasa_config",
)  # fmt: skip
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Pair:
    """B A of one module of an adapter.

    module: its name. scale: what B A is multiplied by. m, n: rows of B, columns of A.
    keys: of B and of A in the file.
    """

    module: str
    scale: float
    m: int
    n: int
    keys: tuple[str, str]


class Adapter:
    """An adapter's folder, open for reading.

    base: the base model that its configuration names, without a path; empty where it names none.
    pairs: its modules.
    """

    def __init__(self, root: Path, config: Mapping[str, Any], file: safe_open) -> None:
        self._root, self._file = root, file
        self.base = _base(config)
        self.pairs = tuple(self._pairs(config))

    def read(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """B (m, k), scaled, and A (k, n), float64.

        Raises:
            ExpertFormatError: they are not finite.
        """
        b, a = (self._file.get_tensor(key).double() for key in pair.keys)
        if not bool(torch.isfinite(b).all() and torch.isfinite(a).all()):
            raise _bad(self._root, f"the tensors of {pair.module!r:.120} hold NaN or infinity")
        return b * pair.scale, a

    def _pairs(self, config: Mapping[str, Any]) -> Iterator[Pair]:
        found: dict[str, dict[str, str]] = {}
        for key in self._file.keys():  # noqa: SIM118 - it is no dict
            if key.endswith(_COPIES):
                continue
            parts = _KEY.fullmatch(key.removeprefix(PREFIX))
            if parts is None:
                raise _bad(self._root, f"{key!r:.120} is no part of a LoRA")
            found.setdefault(parts[1], {})[parts[3]] = key
        if not found:
            raise _bad(self._root, "it holds no tensors")
        for module, keys in sorted(found.items()):
            if len(keys) != 2:
                raise _bad(self._root, f"{module!r:.120} lacks lora_A or lora_B")
            b, a = (self._file.get_slice(keys[each]) for each in "BA")
            rows, columns = list(b.get_shape()), list(a.get_shape())
            if {b.get_dtype(), a.get_dtype()} - set(_DTYPES):
                raise _bad(self._root, f"the tensors of {module!r:.120} are not floating numbers")
            if len(rows) != 2 or len(columns) != 2 or rows[1] != columns[0] or 0 in rows + columns:
                raise _bad(self._root, f"{module!r:.120} has B {rows} and A {columns}")
            rank = _of_module(self._root, config, "rank_pattern", "r", module)
            if rank != rows[1]:
                raise _bad(
                    self._root, f"{module!r:.120} has rank {rows[1]}, {CONFIG_FILE} says {rank:g}"
                )
            alpha = _of_module(self._root, config, "alpha_pattern", "lora_alpha", module)
            scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
            yield Pair(module, scale, rows[0], columns[1], (keys["B"], keys["A"]))


@contextmanager
def opened(folder: Path | str) -> Iterator[Adapter]:
    """The adapter in a folder.

    Raises:
        ExpertFormatError: it is damaged, not safetensors, or of a kind that is more than a LoRA.
    """
    root = Path(folder)
    config = _config(root)
    weights = root / WEIGHTS_FILE
    # A link may lead elsewhere, as in the Hub's cache; a pipe or a device would block.
    if not weights.is_file():
        raise _bad(root, f"it has no {WEIGHTS_FILE} (a .bin is pickled, and not read)")
    try:
        with safe_open(str(weights), framework="pt") as file:
            yield Adapter(root, config, file)
    except (SafetensorError, OSError) as error:
        raise _bad(root, f"{WEIGHTS_FILE} is damaged ({error})") from error


def _config(root: Path) -> dict[str, Any]:
    file = root / CONFIG_FILE
    try:
        if not file.is_file():
            raise _bad(root, f"it has no {CONFIG_FILE}")
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise _bad(root, f"{CONFIG_FILE} is larger than {_MAX_CONFIG_BYTES:,} bytes")
        config = json.loads(file.read_bytes())
    except ExpertFormatError:
        raise
    except OSError as error:
        raise _bad(root, f"{CONFIG_FILE} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _bad(root, f"{CONFIG_FILE} is not JSON") from error
    if not isinstance(config, dict):
        raise _bad(root, f"{CONFIG_FILE} is not a JSON object")
    if config.get("peft_type") != "LORA":
        raise _bad(root, f"its peft_type is {config.get('peft_type')!r:.40}, not 'LORA'")
    other = [key for key in _OTHER_KINDS if config.get(key)]
    if config.get("bias", "none") != "none":
        other.append("bias")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        other.append(f"init_lora_weights={start:.40}")
    if other:
        raise _bad(
            root,
            f"it is more than W + B A ({', '.join(other)}), which singular values cannot stand for",
            "Train a plain LoRA, or convert it to one with PEFT.",
        )
    return config


def _base(config: Mapping[str, Any]) -> str:
    given = config.get("base_model_name_or_path")
    if not isinstance(given, str) or not given:
        return ""
    try:
        name = public_name(given)
    except ConfigError:  # a path such as "/", which names nothing
        return ""
    return name.encode(errors="replace").decode()[:_MAX_NAME]


def _of_module(
    root: Path, config: Mapping[str, Any], patterns: str, default: str, module: str
) -> float:
    """A positive number of the configuration, for one module, matched as PEFT does."""
    value: Any = config.get(default)
    by_pattern = config.get(patterns) or {}
    if not isinstance(by_pattern, dict):
        raise _bad(root, f"{patterns} in {CONFIG_FILE} is no object")
    for pattern, own in by_pattern.items():
        if not _PLAIN_PATTERN.fullmatch(pattern):
            raise _bad(root, f"{patterns} has {pattern!r:.80}, which is more than a module's name")
        try:
            matches = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise _bad(root, f"{patterns} has {pattern!r:.80}, no regular expression") from error
        if matches:
            value = own
            break
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= _LARGEST:
        raise _bad(root, f"{default} for {module!r:.120} is {value!r:.40}")
    return float(value)


def _bad(root: Path, problem: str, remedy: str = "") -> ExpertFormatError:
    remedy = remedy or "Save or fetch the adapter again."
    return ExpertFormatError(f"{root} is not a usable LoRA adapter: {problem}. {remedy}")
