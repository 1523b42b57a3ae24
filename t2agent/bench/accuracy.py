"""t2-nano: accuracy of the base model, wrong experts, the right expert and dispatched.

On unseen requests of each domain, decoded greedily and scored strictly (`t2agent.bench.nano`).
"""

from __future__ import annotations

from typing import Any

from t2agent.bench.nano import accuracies, summary
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.models.model import T2Model


def run(requests: int = 200) -> dict[str, Any]:
    """Accuracy by task and column, and the share of requests that went to their own expert."""
    model = T2Model.from_pretrained("t2-nano")
    measured = accuracies(model, EmbeddingDispatcher(model.registry), requests=requests)
    rows = summary(measured.by_expert, measured.dispatched)
    return {**rows, "routed": dict(measured.routed), "requests": requests}
