"""The stages of pretraining: how long, how fast, and what each of them trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from t2agent.nano.trainee import Trainee


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: rows and images of a batch, steps, peak learning rates, shares of the steps.

    ``horizon``: the steps that the schedule is laid out for, where the stage ends before.
    """

    name: str
    steps: int
    rows: int
    images: int
    muon: float = 0.02
    adam: float = 2e-3
    clean: float = 0.55  # share of the steps in which all writers are careful
    decay: float = 0.6  # share of the steps over which the learning rates fall to zero
    dense: float = 0.3  # weight of the dense loss
    horizon: int | None = None

    def rate(self, step: int) -> float:
        """Factor on the learning rates at a step: warm-up, plateau, linear decay."""
        whole = self.horizon or self.steps
        return min(1.0, (step + 1) / 30, (whole - step) / (self.decay * whole))

    def is_clean(self, step: int) -> bool:
        """Whether all writers are careful at a step."""
        return step < self.clean * (self.horizon or self.steps)


STAGES = {
    "vision": Stage("vision", steps=1200, rows=0, images=96, adam=1.5e-3, dense=1.0),
    "text": Stage("text", steps=1000, rows=44, images=0, horizon=1900),
    "joint": Stage("joint", steps=1800, rows=44, images=72, muon=0.012, adam=1.5e-3),
    "polish": Stage("polish", steps=2000, rows=44, images=64, muon=0.01, adam=1e-3),
}


def build_optimizers(trainee: Trainee, stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for the rest, at the stage's peak rates."""
    named = [(n, p) for n, p in trainee.named_parameters() if p.requires_grad]
    inner = ("layers.", "connector.")
    matrix = [p for n, p in named if p.ndim == 2 and any(part in n for part in inner)]
    ids = {id(p) for p in matrix}
    rest = [p for _, p in named if id(p) not in ids]
    return [
        torch.optim.Muon(matrix, lr=stage.muon, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=stage.adam, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def freeze(trainee: Trainee, stage: Stage) -> None:
    """Let only what the stage's loss reaches take gradients."""
    for name, parameter in trainee.named_parameters():
        seeing = name.startswith(("what.", "tone.")) or ".vision_model." in name
        trained = {
            "vision": seeing,
            "text": not seeing and ".connector." not in name,
        }
        parameter.requires_grad_(trained.get(stage.name, True))
