"""Arithmetic on experts: sums and multiples of z - 1."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2agent.errors import ConfigError, ExpertMismatchError
from t2agent.experts.card import check_name
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.mixture import Mixture
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from tests.experts import random_expert
from tests.models import build_text_model


def expert(name: str, seed: int = 0, modules: str = "pq", **card: object) -> Expert:
    generator = torch.Generator().manual_seed(seed)
    z = {m: 1 + torch.randn(5, generator=generator) for m in modules}
    return Expert(ExpertCard(name, **card), z)  # type: ignore[arg-type]


A, B = expert("math", 1, examples=("2 + 3?",)), expert("json", 2, "qr", examples=("As JSON.",))


def change(one: Expert, module: str) -> torch.Tensor:
    return one.z[module] - 1 if module in one.z else torch.zeros(5)


@pytest.mark.parametrize(
    ("made", "a", "b"),
    [
        (A + B, 1, 1),
        (A - B, 1, -1),
        (-A, -1, 0),
        (0.5 * A, 0.5, 0),
        (A * 0.5, 0.5, 0),
        (A / 4, 0.25, 0),
        (sum([A, B, A]), 2, 1),
        (0.7 * A + 0.3 * B, 0.7, 0.3),
        ((A + B) / 2, 0.5, 0.5),
        (np.float64(0.5) * A - B * np.int64(3), 0.5, -3),
        (Fraction(1, 2) * A, 0.5, 0),
        (A - A, 0, 0),
    ],
)
def test_the_displacement_is_what_is_added(made: Expert, a: float, b: float) -> None:
    for module in "pqr":
        wanted = a * change(A, module) + b * change(B, module)
        torch.testing.assert_close(change(made, module), wanted, rtol=1e-5, atol=1e-6)
    assert all(z.dtype == torch.float32 for z in made.z.values())


def test_a_sum_does_what_the_mixture_does() -> None:
    model: T2Model = build_text_model()
    a, b = (random_expert(model, name, seed) for seed, name in enumerate("ab"))
    for one in (a, b):
        model.registry.register(one)
    inputs = encode(model, [Prompt.user("What is seven times three?")])

    def logits(what: object) -> torch.Tensor:
        with torch.no_grad(), model.adapted(what):  # type: ignore[arg-type]
            return model.model(**inputs).logits

    mixed = logits(Mixture({"a": 0.7, "b": 0.3}))
    torch.testing.assert_close(logits(0.7 * a + 0.3 * b), mixed, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(a + b), mixed, rtol=1e-2, atol=1e-2)
    assert torch.equal(logits(a - a), logits(None))
    made = 0.7 * a + 0.3 * b
    assert (made.card.base, made.card.base_fingerprint) == (model.name, model.fingerprint)


def test_names_are_made_of_the_terms() -> None:
    names = {
        "math-plus-json": A + B,
        "math-minus-json": A - B,
        "minus-math": -A,
        "0.5-math": A / 2,
        "2-math-plus-json": A + B + A,
        "0.7-math-plus-0.3-json": 0.7 * A + 0.3 * B,
        "minus-2-math": -(A + A),
        "1e20-math": 1e20 * A,
        "identity": A - A,
        "math": 3 * A - 2 * A,
    }
    for name, one in names.items():
        assert one.name == name
    named = (A + B).renamed("both", description="Both.", license="MIT")
    assert (named.card.description, named.card.license) == ("Both.", "MIT")
    assert all(torch.equal(named.z[m], (A + B).z[m]) for m in "pqr")
    # An expert with a name of its own is a term of its own.
    assert (2 * named).name == "2-both"
    with pytest.raises(ConfigError):
        A.renamed("no name")


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.text("ab.-_0", max_size=63)), max_size=6))
def test_any_sum_has_a_name(terms: list[tuple[float, str]]) -> None:
    total = 0 * A
    for number, (weight, text) in enumerate(terms):
        total = total + weight * expert("x" + text, number)
    assert check_name(total.name) == total.name


def test_long_sums_have_names_of_their_own() -> None:
    many = [expert(f"expert-number-{n}", n) for n in range(12)]
    one, other = sum(many), sum(many) + 0.001 * many[-1]
    assert len(one.name) <= 64
    assert one.name != other.name
    assert len(one.card.description) < 300


def test_the_card_says_how_it_was_made() -> None:
    card = (0.7 * A - 0.3 * B).card
    assert card.training == {
        "method": "arithmetic",
        "terms": [
            {"weight": 0.7, "expert": "math", "sha256": A.digest()},
            {"weight": -0.3, "expert": "json", "sha256": B.digest()},
        ],
    }
    assert card.examples == ("2 + 3?",)  # not those of what is taken away
    assert (A + B).card.examples == ("2 + 3?", "As JSON.")
    assert (-A).card.examples == ()
    scored = Expert(ExpertCard("x", scores={"val": 1.0}, license="MIT"), dict(A.z))
    assert (2 * scored).card.scores == (scored + A).card.scores == {}
    assert (scored + scored).card.license == "MIT"
    assert (scored + A).card.license == ""
    seeing = expert("see", 3, modality="image")
    assert [(A + seeing).card.modality, (A + B).card.modality] == ["image", "text"]


@pytest.mark.parametrize("terms", [None, 5, "x", [5], [{"weight": "much"}], [{"weight": 1}], {}])
def test_a_card_from_a_stranger_may_say_anything(terms: object) -> None:
    odd = expert("odd", training={"method": "arithmetic", "terms": terms})
    assert (odd + A).name == "odd-plus-math"


def test_experts_of_one_name_are_kept_apart_by_what_they_hold() -> None:
    other = expert("math", 9)
    assert (A + other).name == "math-plus-math"
    assert (A - other).name == "math-minus-math"


def test_experts_of_different_bases_are_refused() -> None:
    here = expert("a", base="x/here", base_fingerprint="f1")
    there = expert("b", base="x/there", base_fingerprint="f2")
    for operate in (lambda: here + there, lambda: here - there, lambda: A + here + there):
        with pytest.raises(ExpertMismatchError, match=r"f1.*f2.*transfer"):
            operate()
    unbound = A + here
    assert (unbound.card.base, unbound.card.base_fingerprint) == ("x/here", "f1")
    short = Expert(ExpertCard("c"), {"p": torch.ones(3)})
    with pytest.raises(ExpertMismatchError, match=r"5 numbers for 'p'"):
        A + short


@pytest.mark.parametrize(
    "operate",
    [
        lambda: A + 1, lambda: 1 + A, lambda: A - 0, lambda: 1 - A, lambda: A * B, lambda: A / B,
        lambda: 1 / A, lambda: A * "2", lambda: True * A, lambda: A * None, lambda: A + "math",
        lambda: A * 1j, lambda: A * torch.ones(5), lambda: A**2,
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_a_type_error(operate: object) -> None:
    with pytest.raises(TypeError):
        operate()  # type: ignore[operator]


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), np.float64("-inf")])
def test_factors_are_finite(factor: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        factor * A
    with pytest.raises(ZeroDivisionError):
        A / 0


def test_nothing_of_the_operands_is_shared_or_changed() -> None:
    z = {"p": torch.ones(3, requires_grad=True)}
    one = Expert(ExpertCard("a"), z)
    made = one + one
    made.z["p"][0] = 7
    assert not made.z["p"].requires_grad
    assert bool((one.z["p"] == 1).all())
    assert sum([one]) is one
