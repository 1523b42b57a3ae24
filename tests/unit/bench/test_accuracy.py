"""Accuracy with the base model, with experts and dispatched, on the shipped t2-nano."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from t2agent.bench import nano as accuracy
from t2agent.dispatch import Decision, Request
from t2agent.experts.mixture import Mixture
from t2agent.models.model import T2Model
from t2agent.nano.tasks import DOMAINS
from t2agent.paths import bundled

with_experts = pytest.mark.skipif(
    not (bundled("experts") / "t2-nano" / "math").is_dir(), reason="t2-nano has no experts yet"
)


class ByImage:
    """Requests with an image go to read, the others to math."""

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        names = ["read" if request.images else "math" for request in requests]
        return [Decision(Mixture({n: 1.0}), "test", {n: 1.0}, True, 0.0) for n in names]


@pytest.fixture(scope="module")
def nano() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


@with_experts
def test_table_covers_every_pair_and_the_dispatcher(nano: T2Model) -> None:
    found = accuracy.table(nano, ByImage(), tasks=("math", "read"), requests=4, progress=False)
    assert set(found.by_expert) == {"math", "read"}
    assert all(set(scores) == {"base", *DOMAINS} for scores in found.by_expert.values())
    assert found.routed == {"math": 1.0, "read": 1.0}
    assert found.dispatched["math"] == found.by_expert["math"]["math"]
