"""What an export says about itself: to its caller, on its card, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2agent.experts.mixture import Mixture
from t2agent.models.exchange.vllm import VllmSupport


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
class LoraExport:
    """A PEFT folder that was written.

    rank: r of the adapter, the same in all layers. needed: the smallest rank that is exact.
    error: as `LayerError.error`, of all layers taken together.
    mixture: what was exported. dtype: of the file. size: its bytes.
    """

    folder: Path
    name: str
    mixture: Mixture
    rank: int
    needed: int
    error: float
    layers: tuple[LayerError, ...]
    dtype: str
    size: int
    vllm: VllmSupport

    @property
    def exact(self) -> bool:
        """Whether no direction was left out: what remains is rounding."""
        return self.needed <= self.rank

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the folder."""
        return {
            "name": self.name,
            "mixture": self.mixture.to_dict(),
            "rank": self.rank,
            "rank_needed": self.needed,
            "exact": self.exact,
            "error": self.error,
            "dtype": self.dtype,
            "bytes": self.size,
            "vllm": {
                "ok": self.vllm.ok,
                "max_lora_rank": self.vllm.max_lora_rank,
                "problems": list(self.vllm.problems),
            },
            "layers": [
                {"name": each.name, "moved": each.moved, "kept": each.kept, "error": each.error}
                for each in self.layers
            ],
        }


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
