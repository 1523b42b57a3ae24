"""What experts change, by module and direction."""

from __future__ import annotations

import json
import math

import pytest
import torch

from t2agent.errors import ConfigError, ExpertMismatchError
from t2agent.experts.compare import compare
from t2agent.experts.expert import Expert, ExpertCard
from tests.experts import random_expert
from tests.models import tiny_text_model


def expert(name: str, fingerprint: str = "", **z: list[float]) -> Expert:
    card = ExpertCard(name, base_fingerprint=fingerprint)
    return Expert(card, {k.replace("__", "."): torch.tensor(v) for k, v in z.items()})


A = expert("a", layers__0__q=[1.5, 1.0, 0.75, 1.002], layers__1__q=[1.0, 1.0])
B = expert("b", layers__0__q=[1.1, 3.0, 1.25, 1.0], embed=[2.0, 2.0, 2.0])


def test_two_experts() -> None:
    found = compare(A, B)

    assert found.names == ("a", "b")
    assert [m.module for m in found.modules] == ["embed", "layers.0.q", "layers.1.q"]
    embed, first, second = found.modules
    assert (embed.length, embed.a, embed.b, embed.cosine) == (3, 0.0, 1.0, None)
    assert (first.moved_a, first.moved_b, first.shared, first.opposed) == (2, 3, 1, 1)
    a, b = torch.tensor([0.5, 0, -0.25, 0.002]), torch.tensor([0.1, 2.0, 0.25, 0])
    assert first.a == pytest.approx(float(a.norm()) / 2, rel=1e-4)
    assert first.cosine == pytest.approx(float(a @ b / (a.norm() * b.norm())), rel=1e-4)
    assert (second.place.layer, second.a, second.moved_a) == (1, 0.0, 0)
    assert found.norm_b == pytest.approx(math.sqrt(3 + 0.01 + 4 + 0.0625), rel=1e-5)
    assert found.total("shared") == found.total("opposed") == 1
    top = found.directions[0]
    assert (top.module, top.rank, top.a, top.b, top.s) == ("layers.0.q", 1, 0.0, 2.0, None)
    assert len(found.directions) == 3 + 4  # no direction that neither moves
    assert json.loads(json.dumps(found.to_dict()))["moved_a"] == 2


def test_one_expert_beside_the_base_model() -> None:
    found = compare(A, threshold=0.0, top=2)
    assert (found.names, found.norm_b, found.cosine) == (("a", None), 0.0, None)
    assert [m.moved_a for m in found.modules] == [3, 0]
    assert [d.rank for d in found.directions] == [0, 2]


def test_the_same_expert_twice_and_its_opposite() -> None:
    model = tiny_text_model()
    one = random_expert(model, "one")
    same, opposite = compare(one, one), compare(one, -one)
    assert same.cosine == pytest.approx(1)
    assert opposite.cosine == pytest.approx(-1)
    assert same.total("shared") == same.total("moved_a") == opposite.total("opposed")
    assert opposite.total("shared") == 0


def test_singular_values_weigh_the_directions() -> None:
    model = tiny_text_model()
    one = random_expert(model, "one")
    found = compare(one, bases=model.bases, top=5)
    sizes = sorted(
        (float(s * abs(z - 1)) for m, basis in model.bases.items()
         for s, z in zip(basis.s, one.z[m], strict=True)), reverse=True,
    )  # fmt: skip
    assert [abs(d.s * d.a) for d in found.directions] == pytest.approx(sizes[:5], rel=1e-4)


def test_profiles_go_by_relative_rank() -> None:
    z = torch.ones(40)
    z[:10] = 3.0
    one = Expert(ExpertCard("x"), {"p": z, "q": torch.ones(20)})
    profile, none = compare(one, parts=4).profiles
    assert profile == pytest.approx((2 * 10 / 15, 0, 0, 0))
    assert none == (0, 0, 0, 0)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ExpertMismatchError):
        compare(expert("a", "f1", p=[1.0]), expert("b", "f2", p=[1.0]))
    with pytest.raises(ExpertMismatchError):
        compare(expert("a", p=[1.0]), expert("b", p=[1.0, 2.0]))
    for wrong in ({"threshold": -1.0}, {"threshold": math.nan}, {"top": 0}, {"parts": 0}):
        with pytest.raises(ConfigError):
            compare(A, **wrong)  # type: ignore[arg-type]
