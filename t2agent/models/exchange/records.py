"""What an export says about itself: to its caller, on its card, as JSON, and to vLLM.

Its folder is written whole, and told from what must not be lost.

Source of what vLLM takes of a LoRA adapter, as far as can be told without it:
`vllm/config/lora.py` (MaxLoRARanks), `vllm/lora/peft_helper.py` and `vllm/lora/lora_model.py`,
versions 0.14 to 0.22: one rank and one alpha for all layers, no rank or alpha patterns,
`--max-lora-rank` one of a few numbers, adapters of vision towers only behind an option that not
every model has. Its GPT-2 takes no LoRA.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.errors import ConfigError
from t2agent.experts.card import PIPELINES, front_matter
from t2agent.experts.mixture import Mixture
from t2agent.files import replace_folder, settle_folder
from t2agent.paths import is_path, public_name

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.models.exchange.adaptable import Adaptable


@dataclass(frozen=True, slots=True)
class LayerError:
    """How well a LoRA of some rank stands for the change of one layer.

    moved: directions that the expert moves. kept: those that the LoRA has.
    error: ||dW - B A|| / ||dW|| in the Frobenius norm, with the rounding of the file's dtype;
        0 where nothing changes.
    """

    name: str
    moved: int
    kept: int
    error: float


@dataclass(frozen=True, slots=True)
class AdapterExport:
    """A low-rank adapter that was written, of any format.

    rank: r of the adapter, the same in all layers. needed: the smallest rank that is exact.
    error: as `LayerError.error`, of all layers taken together.
    mixture: what was exported. dtype: of the file. size: its bytes.
    """

    name: str
    mixture: Mixture
    rank: int
    needed: int
    error: float
    layers: tuple[LayerError, ...]
    dtype: str
    size: int

    @property
    def exact(self) -> bool:
        """Whether no direction was left out: what remains is rounding."""
        return self.needed <= self.rank

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without where it lies."""
        return {
            "name": self.name,
            "mixture": self.mixture.to_dict(),
            "rank": self.rank,
            "rank_needed": self.needed,
            "exact": self.exact,
            "error": self.error,
            "dtype": self.dtype,
            "bytes": self.size,
            "layers": [asdict(each) for each in self.layers],
        }


@dataclass(frozen=True, slots=True)
class LoraExport(AdapterExport):
    """A PEFT folder that was written."""

    folder: Path
    vllm: VllmSupport

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the folder."""
        vllm = {
            "ok": self.vllm.ok,
            "max_lora_rank": self.vllm.max_lora_rank,
            "problems": list(self.vllm.problems),
        }
        return {**AdapterExport.to_dict(self), "vllm": vllm}


@dataclass(frozen=True, slots=True)
class GgufExport(AdapterExport):
    """A GGUF adapter that was written. architecture: llama.cpp's name of the base model's."""

    file: Path
    architecture: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the path."""
        return {**AdapterExport.to_dict(self), "architecture": self.architecture}


@dataclass(frozen=True, slots=True)
class MergedExport:
    """A checkpoint that was written.

    changed: the layers whose weights differ from the base model's. size: of all files, in bytes.
    """

    folder: Path
    name: str
    mixture: Mixture
    changed: tuple[str, ...]
    dtype: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the folder."""
        return {
            "name": self.name,
            "mixture": self.mixture.to_dict(),
            "dtype": self.dtype,
            "bytes": self.size,
            "changed": list(self.changed),
        }


def title(mixture: Mixture) -> str:
    """What an export is called unless a name is given."""
    return _only(mixture) or "mixture"


def lora_card(model: Adaptable, experts: Sequence[Expert], report: LoraExport) -> str:
    """The card of a PEFT folder, with the error of each layer."""
    from t2agent.models.installed import NANO

    base = public_name(model.name)
    place = json.dumps(f"path/of/{base}" if is_path(model.name) else base)
    inside = base == NANO  # it lies in this package, and nowhere else
    auto = type(model.model).__name__
    if report.exact:
        words = f"It is exact at rank {report.rank}: no direction that moves was left out."
    else:
        words = (
            f"It is the best approximation of rank {report.rank}; rank {report.needed} would be "
            f"exact. Relative error of the change, all layers together: {report.error:.3e}."
        )
    return _card(
        _front(model, experts, "peft", "adapter", "lora"),
        report,
        experts,
        f"{_origin(report.mixture)}, exported as a LoRA of rank {report.rank} for {base}. {words}",
        [
            "from peft import PeftModel",
            *(["from t2agent.models.loading import source"] if inside else []),
            f"from transformers import {auto}",
            "",
            f"base = {auto}.from_pretrained({f'source({place})' if inside else place})",
            'model = PeftModel.from_pretrained(base, "path/of/this/folder")',
        ],
        f"{report.vllm}.",
        "",
        f"## Error by layer ({report.dtype})",
        "",
        "Error: ||dW - B A|| / ||dW|| (Frobenius), where dW is the change that the expert makes.",
        "",
        "| layer | directions moved | kept | error |",
        "|---|---:|---:|---:|",
        *(f"| `{e.name}` | {e.moved} | {e.kept} | {e.error:.3e} |" for e in report.layers),
        f"| all | | | {report.error:.3e} |",
        "",
    )


def merged_card(model: Adaptable, experts: Sequence[Expert], report: MergedExport) -> str:
    """The card of a full checkpoint."""
    auto = type(model.model).__name__
    words = (
        f"{_origin(report.mixture)}, merged into the weights of {public_name(model.name)}: "
        f"{len(report.changed)} layers differ from it. dtype: {report.dtype}."
    )
    return _card(
        _front(model, experts, "transformers", "finetune"),
        report,
        experts,
        words,
        [
            f"from transformers import {auto}",
            "",
            f'model = {auto}.from_pretrained("path/of/this/folder")',
        ],
    )


def _front(
    model: Adaptable, experts: Sequence[Expert], library: str, relation: str, *tags: str
) -> str:
    licenses = {expert.card.license for expert in experts}
    return front_matter(
        model.name,
        relation,
        licenses.pop() if len(licenses) == 1 else "",
        library_name=library,
        pipeline_tag=PIPELINES["image" if "image" in model.modalities else "text"],
        tags=[*tags, "t2agent", "transformer-squared", "svf"],
    )


def _card(
    front: str,
    report: LoraExport | MergedExport,
    experts: Sequence[Expert],
    words: str,
    code: Sequence[str],
    *more: str,
) -> str:
    lines = [front, f"# {report.name}", ""]
    for expert in experts:  # what they say they are for
        if expert.card.description:
            lines += [f"{expert.name}: {' '.join(expert.card.description.split())}", ""]
    return "\n".join([*lines, words, "", "```python", *code, "```", "", *more])


def _origin(mixture: Mixture) -> str:
    if _only(mixture):
        return f"The SVF expert {_only(mixture)} (Transformer-Squared)"
    text = " + ".join(f"{weight:g} {name}" for name, weight in mixture.weights.items())
    more = f", with other weights in {len(mixture.layers)} parts" if mixture.layers else ""
    return f"A mixture of SVF experts (Transformer-Squared): {text or 'nothing'}{more}"


def _only(mixture: Mixture) -> str | None:
    """The name of the expert that is all of a mixture, with weight 1."""
    plain = not mixture.layers and list(mixture.weights.values()) == [1.0]
    return next(iter(mixture.weights)) if plain else None


RECORD_FILE = "t2agent_export.json"
README_FILE = "README.md"
FORMAT_VERSION = 1

_MAX_RECORD_BYTES = 64 * 2**20


@contextmanager
def export_folder(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends well.

    The block ends with `write_record`. An export that lies there is replaced.

    Raises:
        ConfigError: `folder` is no path, or holds something else, which would be lost.
    """
    check_free(folder)
    with replace_folder(folder) as temporary:
        yield temporary


def check_free(folder: Path | str) -> None:
    """Raise ConfigError where `folder` is no path, or writing there would lose something."""
    if not isinstance(folder, str | os.PathLike) or not str(folder) or "\0" in os.fspath(folder):
        raise ConfigError(f"{folder!r:.80} is no path of a folder; give a string or Path")
    target = Path(folder)
    if not settle_folder(target):
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file; an export is a folder: give another path")
    present = set(os.listdir(target))
    foreign = sorted(present - _recorded(target))
    if foreign:
        raise ConfigError(
            f"{target} holds other things ({', '.join(foreign[:3])}) that an export there would "
            "delete; give a new folder"
        )


def write_record(folder: Path, kind: str, report: Mapping[str, Any]) -> None:
    """Write `t2agent_export.json`: what the export is, and the files that belong to it.

    Args:
        folder: the finished folder.
        kind: "lora" or "merged".
        report: what the export's report says, in plain JSON.
    """
    files = sorted({*os.listdir(folder), RECORD_FILE})
    record = {"format_version": FORMAT_VERSION, "kind": kind, "files": files, **report}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / RECORD_FILE).write_bytes(text.encode())
    # safetensors makes files that only their owner can read.
    mode = stat.S_IMODE((folder / RECORD_FILE).stat().st_mode)
    for name in files:
        if (folder / name).is_file():
            (folder / name).chmod(mode)


def _recorded(target: Path) -> set[str]:
    """The names of the files of the export that lies there; none where it is no export."""
    file = target / RECORD_FILE
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _MAX_RECORD_BYTES:
            return set()
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    files = record.get("files") if isinstance(record, dict) else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()


# 1 as well in newer versions; a larger limit costs little memory and holds everywhere.
_MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class VllmSupport:
    """Whether vLLM can serve an adapter.

    max_lora_rank: what to give as `--max-lora-rank`; None where the rank is too high.
    problems: why it cannot; empty where nothing speaks against it.
    """

    max_lora_rank: int | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems

    def __str__(self) -> str:
        if self.problems:
            return f"vLLM: no, {'; '.join(self.problems)}"
        return f"vLLM: yes, with --enable-lora --max-lora-rank {self.max_lora_rank}"


def vllm_support(rank: int, *, vision: Collection[str], transposed: bool) -> VllmSupport:
    """What vLLM will say to an adapter.

    Args:
        rank: of the adapter.
        vision: the adapted layers outside the language part.
        transposed: whether layers are GPT-2's Conv1D.
    """
    problems = []
    limit = next((limit for limit in _MAX_RANKS if limit >= rank), None)
    if limit is None:
        problems.append(f"its rank {rank} is above {_MAX_RANKS[-1]}: export with a smaller rank")
    if vision:
        problems.append(
            f"{len(vision)} of its layers are outside the language part ({min(vision)}, ...), "
            "where vLLM applies no LoRA by default: adapt with targets='all'"
        )
    if transposed:
        problems.append("models with Conv1D layers, such as GPT-2, take no LoRA there")
    return VllmSupport(limit, tuple(problems))
