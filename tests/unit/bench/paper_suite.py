"""A tiny base model of a real architecture and tasks for it: the paper's experiments in seconds."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from t2agent.bench.paper.plan import Plan
from t2agent.bench.paper.suite import Suite
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.train import Example
from tests.models import build_tokenizer

CONTEXT = 512
TINY = {
    "seeds": (0,),
    "requests": 4,
    "chosen_on": 2,
    "steps": 1,
    "shots": 2,
    "scaling": (1, 2),
    "scales": (1.0,),
    "search": {"iterations": 1, "population": 2, "climb": 1, "max_tokens": 3},
    "methods": ("svf", "svf-mlp-sft", "lora-r1", "ia3-sft"),
    "rates_on": 1,
    "compared_on": 1,
    "timed": 1,
    "hyper": {"validation": 2, "prompts": 2, "samples": 2, "max_tokens": 3},
}


def build(seed: int = 0) -> T2Model:
    """A Qwen2 of two layers, 32 wide."""
    tokenizer = build_tokenizer()
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    return T2Model(model, tokenizer, name="tiny-qwen2")


@functools.cache
def shared() -> T2Model:
    """One for all tests."""
    return build()


@dataclass(frozen=True)
class Words:
    """Replies earn something by their length; ``splits`` are those that there are."""

    name: str
    splits: tuple[str, ...] = ("train", "val", "test")
    max_tokens: int = 3

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        if split not in self.splits:
            raise ConfigError(f"no split {split}")
        return [Example(f"{self.name} {split} {seed} {i}", str(i)) for i in range(n)]

    def reward(self, reply: str, example: Example) -> float:
        return 1.0 if len(reply) % 2 else -1.0


def suite(model: T2Model | None = None, **changes: object) -> Suite:
    """Two domains with a sibling each, one without a train split, and a combination of both."""
    names = ("sums", "sums_hard", "poems", "poems_hard", "both")
    tasks = {name: Words(name) for name in names}
    tasks["poems_hard"] = Words("poems_hard", ("test",))
    plain = Suite(
        model=model or shared(),
        tasks=tasks,
        domains=("sums", "poems"),
        siblings={"sums": "sums_hard", "poems": "poems_hard"},
        combinations={"both": ("sums", "poems")},
        examples={"sums": ["What is 1 + 2?"]},
        others=("hello", "good morning", "how are you?"),
        descriptions={"sums": "Sums.", "poems": "Poems."},
        rates={"sums": 0.05},
        conflicting=lambda one, other: one != other,
    )
    return dataclasses.replace(plain, **changes)


def plan(**changes: object) -> Plan:
    """Sizes of a few."""
    return Plan(**{**TINY, **changes})


def expert(model: T2Model, name: str, seed: int) -> Expert:
    """An expert with random vectors, and requests on its card."""
    generator = torch.Generator().manual_seed(seed)
    blank = Expert.identity(model, name)
    z = {key: 1 + 0.3 * torch.randn(len(one), generator=generator) for key, one in blank.z.items()}
    requests = tuple(e.prompt for e in Words(name).sample(6, seed=9))
    return Expert(dataclasses.replace(blank.card, examples=requests), z)


def files(folder: Path) -> tuple[str, str]:
    """Two tasks as JSON lines."""
    made = []
    for name in ("sums", "poems"):
        file = folder / f"{name}.jsonl"
        lines = [f'{{"prompt": "{name} number {i}", "answer": "{i % 3}"}}\n' for i in range(30)]
        file.write_text("".join(lines))
        made.append(str(file))
    return made[0], made[1]
