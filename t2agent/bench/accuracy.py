"""t2-nano: accuracy of the base model, wrong experts, the right expert and dispatched.

On unseen requests of each domain, decoded greedily and scored strictly (`t2agent.bench.nano`).
"""

from __future__ import annotations

from typing import Any

from t2agent.bench.nano import summary, table
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.models.model import T2Model


def run(requests: int = 200) -> dict[str, Any]:
    """Accuracy by task and column, and the share of requests that went to their own expert."""
    model = T2Model.from_pretrained("t2-nano")
    measured = table(model, EmbeddingDispatcher(model.registry), requests=requests)
    return {**summary(measured), "routed": measured.routed, "requests": requests}
