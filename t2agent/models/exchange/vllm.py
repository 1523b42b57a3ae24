"""What vLLM takes of a LoRA adapter, as far as can be told without it.

Source: vLLM's `vllm/config/lora.py` (MaxLoRARanks), `vllm/lora/peft_helper.py` and
`vllm/lora/lora_model.py`, versions 0.14 to 0.22: one rank and one alpha for all layers, no rank or
alpha patterns, `--max-lora-rank` one of a few numbers, adapters of vision towers only behind an
option that not every model has. Its GPT-2 takes no LoRA.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

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
