"""Negative controls: what training and experts must not be able to do by chance.

A task whose reward says nothing, an expert whose values are in the wrong places, and one of random
values of the same size. Source: the paper (arXiv 2501.06252) shuffles z to show that its order
matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from t2agent.experts.card import NAME_LENGTH
from t2agent.experts.expert import Expert
from t2agent.tasks.task import Example, Task, example_key


class RandomReward:
    """A task with the examples of another and a reward of +1 or -1 that no reply earns.

    The reward is a hash of seed, prompt, image and reply: the same for the same reply, as if by a
    coin for another, and nothing that holds for other examples. ``max_tokens`` and ``reference``
    are those of the task, where it has them.
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.seed = task, seed
        self.name = _named(task.name, "random")
        for optional in ("max_tokens", "reference"):
            if hasattr(task, optional):
                setattr(self, optional, getattr(task, optional))

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """The task's own examples."""
        return self.task.sample(n, seed=seed, split=split)

    def reward(self, reply: str, example: Example) -> float:
        """+1 or -1, each for half of all replies."""
        digest = hashlib.sha256(repr((self.seed, example.prompt, reply)).encode())
        if example.image is not None or example.messages:  # many may share a prompt
            digest.update(example_key(example))
        return 1.0 if digest.digest()[0] & 1 else -1.0


def shuffled(expert: Expert, seed: int = 0) -> Expert:
    """The expert with the values of each module in a random order."""

    def shuffle(z: Tensor, generator: torch.Generator) -> Tensor:
        return z[torch.randperm(len(z), generator=generator)]

    return _control(expert, seed, "shuffled", shuffle)


def random_like(expert: Expert, seed: int = 0) -> Expert:
    """An expert of normal random values, whose z - 1 is as long as the expert's in each module."""

    def draw(z: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(z), generator=generator, dtype=torch.float64)
        drawn: Tensor = 1 + noise * ((z.double() - 1).norm() / noise.norm())
        return drawn.float()

    return _control(expert, seed, "random", draw)


def _control(
    expert: Expert, seed: int, kind: str, change: Callable[[Tensor, torch.Generator], Tensor]
) -> Expert:
    generator = torch.Generator().manual_seed(seed)
    z = {name: change(v.detach().cpu(), generator) for name, v in sorted(expert.z.items())}
    card = replace(
        expert.card,
        name=_named(expert.name, kind),
        description=f"Control: {expert.name}, {kind}.",
        training={"control": kind, "of": expert.name, "seed": seed},
        scores={},
    )
    return Expert(card, {name: z[name] for name in expert.z})


def _named(name: str, kind: str) -> str:
    return f"{name[: NAME_LENGTH - len(kind) - 1]}-{kind}"
