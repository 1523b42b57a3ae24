from __future__ import annotations

import pytest

from t2agent.experts.card import ExpertCard
from t2agent.experts.discovery import BaseModel

LENGTHS = {"a.q": 5}
OURS = "org/base"
OTHERS = "org/other"


@pytest.mark.parametrize(
    ("base", "card", "fits"),
    [
        # Both fingerprints are known: they alone decide.
        (BaseModel(OURS, "f1"), ExpertCard("x", base=OURS, base_fingerprint="f1"), True),
        (BaseModel(OURS, "f1"), ExpertCard("x", base=OTHERS, base_fingerprint="f1"), True),
        (BaseModel(OURS, "f1"), ExpertCard("x", base=OURS, base_fingerprint="f2"), False),
        # One is not: shapes decide where they are known, names where they are not.
        (BaseModel(OURS, "f1"), ExpertCard("x", base=OURS), True),
        (BaseModel(OURS, "f1"), ExpertCard("x", base=OTHERS), False),
        (BaseModel(OURS), ExpertCard("x", base=OTHERS, base_fingerprint="f1"), False),
        (BaseModel(OURS), ExpertCard("x", base=OURS, base_fingerprint="f1"), True),
        (BaseModel(OURS), ExpertCard("x"), True),
        (BaseModel(OURS, "f1", LENGTHS), ExpertCard("x", base=OTHERS), True),
        (BaseModel(OURS, "f1", {"a.q": 6}), ExpertCard("x", base=OURS), False),
        (BaseModel(OURS, "f1", {"a.k": 5}), ExpertCard("x", base=OURS), False),
        (BaseModel(OURS, "f1", {"a.q": 5, "a.k": 9}), ExpertCard("x", base=OURS), True),
        # The same weights adapted in fewer layers.
        (BaseModel(OURS, "f1", {}), ExpertCard("x", base=OURS, base_fingerprint="f1"), False),
    ],
)
def test_what_fits(base: BaseModel, card: ExpertCard, fits: bool) -> None:
    assert (base.misfit(card, LENGTHS) is None) is fits


def test_a_foreign_expert_is_refused_with_both_fingerprints_named() -> None:
    card = ExpertCard("math", base=OTHERS, base_fingerprint="their-print")
    message = str(BaseModel(OURS, "our-print").misfit(card, LENGTHS))
    for text in ("'math'", OTHERS, "their-print", OURS, "our-print", "train"):
        assert text in message


def test_wrong_shapes_are_named() -> None:
    card = ExpertCard("math")
    message = str(BaseModel(OURS, shapes={"a.q": 7}).misfit(card, LENGTHS))
    for text in ("5 numbers", "'a.q'", "needs 7"):
        assert text in message
    assert "targets" in str(BaseModel(OURS, shapes={"b": 7}).misfit(card, LENGTHS))


def test_an_expert_is_foreign_by_its_name_unless_its_weights_are_ours() -> None:
    base = BaseModel("/models/base", "f1")
    assert not base.is_foreign(ExpertCard("x"))
    assert not base.is_foreign(ExpertCard("x", base="base", base_fingerprint="f2"))
    assert base.is_foreign(ExpertCard("x", base=OTHERS))
    assert base.is_foreign(ExpertCard("x", base=OTHERS, base_fingerprint="f2"))
    assert not base.is_foreign(ExpertCard("x", base=OTHERS, base_fingerprint="f1"))
