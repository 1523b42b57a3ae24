"""t2-nano: accuracy of the base model, wrong experts, the right expert and dispatched.

On unseen requests of each domain, decoded greedily and scored strictly (`t2agent.nano.accuracy`).
"""

from __future__ import annotations

from typing import Any

from t2agent.dispatch import EmbeddingDispatcher
from t2agent.model import T2Model
from t2agent.nano.accuracy import table
from t2agent.nano.chart import summary


def run(requests: int = 200) -> dict[str, Any]:
    """Accuracy by task and column, and the share of requests that went to their own expert."""
    model = T2Model.from_pretrained("t2-nano")
    measured = table(model, EmbeddingDispatcher(model.registry), requests=requests)
    return {**summary(measured), "routed": dict(measured.routed), "requests": requests}
