"""Changes of low rank against the singular value decomposition, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2agent.svf.basis import Basis, decompose
from t2agent.svf.low_rank import low_rank, moved, product_norm, project, rounding, sharpened

SHAPES = [(12, 20), (20, 12), (16, 16), (1, 7), (7, 1), (5, 5000), (5000, 5)]


def change(weight: Tensor, delta: Tensor) -> Tensor:
    """U diag(delta s) V^T in float64."""
    U, s, Vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return (U * (delta.double() * s)) @ Vh


def made(m: int, n: int) -> tuple[Tensor, Basis, Tensor]:
    weight = torch.randn(m, n)
    basis = decompose(weight)
    return weight, basis, torch.randn(basis.size)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_every_rank_has_the_error_that_it_says_and_no_matrix_has_less(m: int, n: int) -> None:
    weight, basis, delta = made(m, n)
    wanted = change(weight, delta)
    values = torch.linalg.svdvals(wanted)
    for rank in (1, 2, basis.size // 2, basis.size):
        if not 1 <= rank <= basis.size:
            continue
        found = low_rank(weight, basis, delta, rank)
        assert found.b.shape == (m, rank)
        assert found.a.shape == (rank, n)
        assert found.moved == basis.size
        assert found.norm == pytest.approx(float(wanted.norm()), rel=1e-5)
        left = float((found.b @ found.a - wanted).norm())
        assert left == pytest.approx(found.left, rel=1e-4, abs=2e-5 * found.norm)
        best = float(values[rank:].norm())  # Eckart and Young
        assert left == pytest.approx(best, rel=1e-4, abs=2e-5 * found.norm)


@pytest.mark.parametrize(("m", "n"), SHAPES[:3])
def test_directions_that_stay_need_no_rank(m: int, n: int) -> None:
    weight, basis, delta = made(m, n)
    delta[3:] = 0
    delta[1] = 0
    assert moved(basis, delta) == 2
    found = low_rank(weight, basis, delta, 8)
    assert found.moved == found.b.shape[1] == 2
    assert found.left == 0
    assert relative(found.b @ found.a, change(weight, delta)) < 1e-5
    nothing = low_rank(weight, basis, torch.zeros(basis.size), 8)
    assert nothing.b.shape == (m, 0)
    assert nothing.a.shape == (0, n)
    assert nothing.norm == nothing.left == 0


@pytest.mark.parametrize(("m", "n"), SHAPES[:3])
def test_directions_without_a_singular_value(m: int, n: int) -> None:
    weight = torch.zeros(m, n)
    weight[:4, :4] = torch.randn(4, 4)
    basis = decompose(weight)
    delta = torch.randn(basis.size)
    found = low_rank(weight, basis, delta, basis.size)
    assert bool(torch.isfinite(found.b).all() and torch.isfinite(found.a).all())
    assert relative(found.b @ found.a, change(weight, delta)) < 1e-5
    back = project(weight, basis, found.b, found.a)
    assert bool(torch.isfinite(back.delta).all())
    assert torch.allclose(back.delta[:4].float(), delta[:4], atol=1e-5)
    assert not back.delta[4:].any()
    nowhere = project(torch.zeros(m, n), decompose(torch.zeros(m, n)), found.b, found.a)
    assert not nowhere.delta.any()
    assert nowhere.kept == 0 < nowhere.norm


def test_rows_and_columns_are_equally_long() -> None:
    weight, basis, delta = made(12, 20)
    found = low_rank(weight, basis, 1e-6 * delta, 12)
    torch.testing.assert_close(found.b.norm(dim=0), found.a.norm(dim=1), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_projecting_gives_back_what_was_exported(m: int, n: int) -> None:
    weight, basis, delta = made(m, n)
    found = low_rank(weight, basis, delta, basis.size)
    back = project(weight, basis, found.b, found.a)
    torch.testing.assert_close(back.delta.float(), delta, atol=1e-4, rtol=1e-4)
    assert back.kept == pytest.approx(back.norm, rel=1e-6)


@pytest.mark.parametrize(("m", "n"), SHAPES[:3])
def test_projecting_a_foreign_change_is_least_squares(m: int, n: int) -> None:
    weight, basis, _ = made(m, n)
    b, a = torch.randn(m, 3), torch.randn(3, n)
    foreign = b.double() @ a.double()
    found = project(weight, basis, b, a)
    U, s, Vh = torch.linalg.svd(weight.double(), full_matrices=False)
    terms = torch.stack([s[i] * torch.outer(U[:, i], Vh[i]).flatten() for i in range(len(s))], 1)
    wanted = torch.linalg.lstsq(terms, foreign.flatten()).solution
    torch.testing.assert_close(found.delta, wanted, atol=1e-4, rtol=1e-3)
    assert found.norm == pytest.approx(float(foreign.norm()), rel=1e-9)
    kept = foreign.norm() ** 2 - (foreign - change(weight, wanted)).norm() ** 2
    assert found.kept == pytest.approx(float(kept.sqrt()), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_what_is_measured(dtype: torch.dtype) -> None:
    b, a = torch.randn(12, 3, dtype=torch.float64), torch.randn(3, 20, dtype=torch.float64)
    measured = (b.to(dtype).double() @ a.to(dtype).double() - b @ a).norm()
    assert rounding(b, a, dtype) == pytest.approx(float(measured), rel=1e-3)
    assert product_norm(b, a) == pytest.approx(float((b @ a).norm()), rel=1e-12)


def test_vectors_of_narrow_weights_are_sharpened() -> None:
    weight = torch.randn(12, 20).bfloat16()
    basis = decompose(weight)
    sharp = sharpened(weight, basis)
    assert sharp.q.dtype == torch.float32
    assert relative(sharp.q.mT @ sharp.q, torch.eye(12)) < 1e-5
    assert relative(basis.q.float().mT @ basis.q.float(), torch.eye(12)) > 1e-4
    delta = torch.randn(12)
    found = low_rank(weight, sharp, delta, 12)
    assert relative(found.b @ found.a, change(weight, delta)) < 1e-5
    wide = decompose(weight.float())
    assert sharpened(weight.float(), wide) is wide
