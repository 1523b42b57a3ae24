"""A policy that is not the base model's, and rows to learn from, for tests of gradients."""

from __future__ import annotations

import torch
from torch import nn

from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.train import Example, TrainOptions
from t2agent.train.adapters import Adapter, SvfAdapter
from t2agent.train.learner import Learner, Row
from t2agent.train.setup import start_accelerator

EXAMPLES = [Example("What is seven times three?", "21"), Example("Hi", "Hello")]
ROWS = [
    Row(0, (20, 21, 22), 1.5, 2),
    Row(0, (20, 30), -0.5, 1),
    Row(1, (9,), -1.0, 1),
    Row(1, (40, 41, 42, 43, 44), 0.25, 3),
]


def moved(model: T2Model) -> SvfAdapter:
    """z away from 1."""
    generator = torch.Generator().manual_seed(2)
    ones = Expert.identity(model, "in-training")
    z = {
        name: nn.Parameter(1 + 0.3 * torch.randn(len(value), generator=generator))
        for name, value in ones.z.items()
    }
    return SvfAdapter(model, Expert(ones.card, z))


def learner_of(model: T2Model, adapter: Adapter, options: TrainOptions) -> Learner:
    return Learner(model, adapter, options, 8, start_accelerator(model, options))
