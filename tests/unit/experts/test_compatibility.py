from __future__ import annotations

import pytest
import torch

from t2agent.errors import ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.experts.compatibility import BaseModel, common_base
from t2agent.experts.expert import Expert

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


def test_experts_of_different_base_models_are_told_with_both_named() -> None:
    cards = [ExpertCard(name, base=OURS, base_fingerprint=f"print-{name}") for name in "ab"]
    with pytest.raises(ExpertMismatchError) as caught:
        common_base([Expert(card, {"a.q": torch.ones(5)}) for card in cards])
    for text in ("expert 'a'", "print-a", "expert 'b'", "print-b", "t2agent experts transfer"):
        assert text in str(caught.value)


def test_lengths_are_compared_with_the_first_expert_that_has_a_module() -> None:
    first = Expert(ExpertCard("first", base=OURS), {"a.q": torch.ones(5)})
    second = Expert(ExpertCard("second", base_fingerprint="f1"), {"a.k": torch.ones(3)})
    third = Expert(ExpertCard("third"), {"a.k": torch.ones(4), "a.q": torch.ones(5)})
    assert common_base([first, second]) == (OURS, "f1")
    assert common_base([]) == ("", "")
    with pytest.raises(ExpertMismatchError, match=r"'second' has 3 .*'a\.k'.*'third' has 4"):
        common_base([first, second, third])
