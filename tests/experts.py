"""Random experts, and a dispatcher that goes by words: for tests of what stands above both."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from t2agent.dispatch import Decision, Request
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.model import T2Model


def random_expert(model: T2Model, name: str, seed: int = 0) -> Expert:
    """An expert whose effect on a tiny random model is large."""
    generator = torch.Generator().manual_seed(seed)
    z = {n: 1 + 0.7 * torch.randn(r, generator=generator) for n, r in model.shapes.items()}
    proof = {"val": 1.0, "val_base": -1.0}  # so that dispatch may choose it
    card = ExpertCard(name, base=model.name, base_fingerprint=model.fingerprint, scores=proof)
    return Expert(card, z)


class WordDispatcher:
    """Chooses the expert whose name is a word of the request; none is out of scope."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.requests: list[Request] = []

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        self.requests += requests
        return [self._decide(request.text) for request in requests]

    def _decide(self, text: str) -> Decision:
        scores = {name: float(name in text.split()) for name in self.names}
        chosen = {name: 1.0 for name, score in scores.items() if score}
        return Decision(Mixture(chosen), "word", scores, bool(chosen), 0.001)
